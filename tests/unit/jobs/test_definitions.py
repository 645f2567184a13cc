"""The shared Lua definitions: a script gets those that it uses, and no others."""

from worker.jobs.ledger.definitions import Definitions

SHARED = """\
-- All of them say `unused`.
local A, B = ARGV[1], ARGV[2]

-- Return a sum.
local function sum(x)
  local found = x + A -- not unused
  return found
end

local function unused(x) return sum(x) end
local TEXT = [==[sum @unused@]==]
local long = { 'unused',
  B,
}
setup(B)
"""


def test_script_gets_what_its_definitions_use() -> None:
    assert Definitions(SHARED).used_by("return sum(1)") == (
        "local A, B = ARGV[1], ARGV[2]\n\n"
        "local function sum(x)\n  local found = x + A -- not unused\n  return found\nend\n\n"
        "setup(B)\n"
    )


def test_script_gets_statements_of_several_lines() -> None:
    assert "local long = { 'unused',\n  B,\n}\n" in Definitions(SHARED).used_by("return long")


def test_names_in_strings_and_comments_are_not_used() -> None:
    found = Definitions(SHARED).used_by("return TEXT .. 'unused' -- sum")
    assert found == "local A, B = ARGV[1], ARGV[2]\n\nlocal TEXT = [==[sum @unused@]==]\nsetup(B)\n"
