-- Shared by all scripts: the keys, the clock, leases and the event log. A script gets only the definitions that it uses
-- (worker/jobs/ledger/definitions.py): each begins its line, and so does its `end`.
--
-- Arguments. A script about a job gets ARGV = prefix, time (RFC 3339), time (s since the epoch), retention (s),
-- job id, and then its own arguments. The header of such a script writes "…" for these five. A script about a
-- queue or a worker gets the prefix and then its own arguments. Scripts get no KEYS: one script reaches the keys
-- of a job and the keys of its queue together, so Stoker needs one Redis server and not a Cluster.
--
-- Keys, all behind "<prefix>:". A key with the parts <owner>, <queue> or <worker> exists once for each of them.
-- An owner is the id of an API key, or '' if the API asks for none. Redis removes a set or sorted set with its
-- last member. docs/architecture.md has these keys in tables too; change both together.
--
--   job                            type    contents; written by; removed
--   job:{<id>}:record              hash    the job; by every script about it; by `erase`, and by its expiry
--   job:{<id>}:events              stream  entry <n>-0: event (JSON), resume; by `emit`; with the record
--   job:{<id>}:events:copy         stream  a copy of the log, which takes its place in the same script; by `trim_log`
--   job:{<id>}:segments            hash    the segments of a running video, see segments.lua; by `take_segment`, `help`,
--                                          `finish_segment`, `release_segment`; by `detach`, or by its expiry
--   job:{<id>}                     channel every event (JSON) when it is logged; by `emit`
--   once:<owner>:<sha256>          hash    job, fingerprint: an idempotency key, or the name of a conversation; by
--                                          `submit`; with the record
--   once:<owner>:<sha256>:aside    hash    the same, while the next request of a conversation is submitted; by
--                                          `Ledger.released_key`; by the same
--   seq                            string  sequence number of the newest job; by `submit`; never
--   jobs                           zset    job id -> sequence number; by `submit`; by `erase`
--   owner:<owner>:jobs             zset    the same for one owner; by `submit`; by `erase`
--   deadlines                      zset    job id -> time (s) at which the job expires, times out, or is canceled
--                                          without its worker; by `submit`, `claim`, `cancel`; with the final state
--   finished                       zset    job id -> time (s) of the end, or 0 after `evict`; by `finish`; by `erase`
--   inputs                         zset    job id -> time (s) of the end: ended jobs that may have files which they
--                                          need no more; by `finish`; by `inputs_removed` and `erase`
--   owner:<owner>:ended            zset    job id -> time (s) of the end: the owner's ended jobs; by `finish`; by
--                                          `erase` and `evict`
--   owner:<owner>:evicted          set     the owner's evicted jobs that still have files; by `evict`; by `erase`
--   owner:<owner>:bytes            hash    job id -> bytes of its record and log, their sum `total`, and the part of
--                                          ended jobs `ended`; by `enter`; entries by `erase` and `evict`
--   owner:<owner>:file_bytes       hash    the same for the bytes of its files
--   webhooks                       zset    job id -> time (s) of the end: new webhooks; by `finish`; by
--                                          `dispatch_webhooks`, which gives them to their owners, or by `erase`
--   owner:<owner>:webhooks         zset    job id -> time (s) at which the webhook is due: undelivered webhooks; by
--                                          `dispatch_webhooks`, `claim_webhook_try`, the sender; on delivery, when
--                                          it is given up, or by `erase`
--   webhooks:turns                 zset    owner -> time (s) of its last turn, or 0: owners with undelivered webhooks;
--                                          by `dispatch_webhooks`; when the owner has none
--   webhooks:active                hash    job id -> "<time (s) at which the try counts as lost> <owner> <host>":
--                                          tries in flight; by `dispatch_webhooks` and `claim_webhook_try`; by the
--                                          sender, by `erase`, or when it counts as lost
--
--   traces                         zset    job id -> time (s) of the end: jobs whose spans are not exported yet; by
--                                          `finish`; by the API, `erase`, or if there are too many
--
--   queue                          type    contents; written by; removed
--   queues                         set     queues that have had a job; by `submit`; never
--   queue:<queue>:waiting          zset    job id -> sequence number: waiting jobs, dispatched ones included;
--                                          by `add_waiting`; by `remove_waiting`
--   queue:<queue>:line:<owner>     zset    a flow: job id -> rank (priority, then age); by `enqueue`; by `dequeue`
--   queue:<queue>:turns            zset    start tags: owner -> start tag of the flow's first job; by `enqueue`,
--                                          `charge` and `dispatch`; when the flow is empty
--   queue:<queue>:ready            zset    owner -> start tag, for the flows that are not at their owner's running cap;
--                                          2^50 is added if the flow has only background jobs; by `index_flow`; by
--                                          `park`, or when the flow is empty
--   queue:<queue>:lengths          zset    owner -> number of jobs in the flow that are no background jobs, for estimates of
--                                          positions; by `index_flow`; when the flow is empty
--   queue:<queue>:fair             hash    scheduler state: now (virtual time), last:<owner> (next start tag of a
--                                          flow that is empty), called (time of the last dispatch), version and
--                                          told (queue version now, and at the last broadcast), indexed (version
--                                          that `ready` covers), refreshed (owner to continue at, see
--                                          `refresh_index`); never
--   queue:<queue>:called           zset    dispatched jobs: job id -> time (s) of the dispatch; by `dispatch`;
--                                          by `remove_waiting` or `undispatch`
--   queue:<queue>:running          set     running jobs; by `claim`; by `detach`
--   queue:<queue>:offered          set     running videos whose segments idle workers may compute; by `take_segment`; by
--                                          `detach`, or by `help` if the attempt is over
--   queues:paused                  set     names of the queues that are paused; by queues.py; by queues.py
--   owner:<owner>:waiting          set     the owner's waiting jobs, for its limit max_waiting; as `waiting` above
--   owner:<owner>:active           set     the owner's dispatched and running jobs, for its limit max_running;
--                                          by `dispatch` and `claim`; by `remove_waiting`, `undispatch`, `detach`
--   owner:<owner>:parked           set     queues in which the owner's flow has jobs and is not ready, because the owner is at
--                                          its running cap; by `park`; by `leave_active`
--   queues:room                    hash    "<queue> slots" and "<queue> free": sums over the queue's workers in
--                                          `worker:room`; `:cards` and `:room`: where to recount next; by `enter_room`
--                                          and `recount_room`; never
--   lengths                        hash    key of a set of jobs -> sum of (length - 1) of its jobs, for the sets of
--                                          dispatched, waiting and active jobs and those of workers; by `add_length`;
--                                          entries when they are 0
--   service                        hash    queue -> moving average of run times (s); by `finish`; never
--   totals                         hash    "<queue> <state>" -> number of ended jobs; by `finish`; never
--   metrics:calls:<process>        string  number of the last `add_metrics` of an API process; by the same; a day later
--   metrics                        hash    metric, part and labels -> value (worker/jobs/metrics); by `count`, `observe`,
--                                          `append` and metrics_store.py; never
--
--   file, batch                    type    contents; written by; removed
--   file:<id>                      hash    a file; by `create_file`; by `delete_file`
--   owner:<owner>:files            zset    file id -> time (s) of its creation; by `create_file`; by `delete_file`
--   files:expiry                   zset    file id -> time (s) at which it expires, or 0 when it is deleted and its content
--                                          may be there; by `create_file`, `delete_file`, the API; with the content
--   batch:<id>                     hash    a batch; by `create_batch`, `change_batch`, `collect_batch`; by its expiry, or
--                                          by `create_batch` if there are too many
--   batch:<id>:done                string  a bit for each request with a result; by `collect_batch`; by `close_batch`
--   batch:<id>:parts               list    names of the parts with results; by `collect_batch`; by `close_batch`
--   owner:<owner>:batches          zset    batch id -> time (s) of its creation; by `create_batch`; by `create_batch` if
--                                          there are too many
--   batches                        zset    the same for batches of all owners that need work; by `create_batch`; by
--                                          `close_batch`
--   lease:<name>                   string  name of the process that does this work; by `take_lease`; by its expiry
--
--   worker, model                  type    contents; written by; removed
--   workers                        zset    worker -> time (s) at which its lease ends; by `lease`; by `release`
--   worker:cards                   hash    worker -> card (JSON); by `renew`; by `release`
--   workers:draining               set     workers that an administrator drains; by registry.py; by `release`
--   watchers                       zset    recovery's name of a process that watches the leases -> time (s) until which it
--                                          counts as one; by `look`; after a lease
--   worker:room                    hash    worker -> "<slots> <free slots> <queue>", 0 if it is not ready; by
--                                          `enter_room`; by `release`
--   worker:<worker>:jobs           set     jobs that the worker has claimed; by `claim`; by `detach` and `requeue`
--   worker:<worker>:counted        hash    metrics field -> count of the worker that the metrics contain; by `renew`; a
--                                          day after the last renewal
--   models                         hash    queue -> model card (JSON); by registry.py; never
--   models:seen                    zset    queue -> time (s) at which a worker of the model was last seen; by `see_model`;
--                                          never
--   model:<name>:prompt            string  prompt template of a chat model (JSON); by registry.py; never
--   replicated                     string  empty: a write that WAIT can wait for; by replicas.py; never
--   writable                       string  empty: a write that shows whether Redis takes any; by store.py; never
--   orphans                        zset    job id -> time (s) at which recovery first found files of a job without a
--                                          record; by `orphans`; with the files
--   recovery:<task>                string  a round of this task has been taken; by recovery.py; by its expiry
--
--   API                            type    contents; written by; removed
--   keys                           set     ids of all API keys; by `stoker keys create`; never
--   key:<owner>                    hash    the API key with its scopes, and its limits max_waiting and max_running;
--                                          by `stoker keys`, and last_used_at by the API; never
--   audit                          stream  changes of keys: action, key, name, by; by `stoker keys`; the oldest
--                                          beyond 10,000
--   secret                         string  root of the signing keys; by the first process that needs it; never
--   feed:<random>                  channel messages of the feed of one API process to itself; by that process
--   announce:<topic>               channel empty messages that end a wait: a model is served (topic `models`), a job waits
--                                          where none was (`work`), there is a batch (`batches`), a video offers segments
--                                          (`segments:<queue>`); by `announce`. A process sends
--                                          them to itself on a random topic, to check its subscription
--
-- Some stored names are older than the words in this code: `line` is a flow, `turns` the start tags, `fair` the
-- scheduler state, `called` the dispatched jobs, `told` the last version that was broadcast. In a record, `apart`
-- is the worker that waits to run the job in isolation, `place` the last position that was logged, and `told_at`
-- the time of that event. `silent` is the reason of the last requeue that followed a part of the result, and the time
-- of that part; `waits_since` is the time of the last requeue, and `counted` the tokens that metrics contain.
-- `prompt` has the token ids of a waiting chat's prompt, and the version of the template that made them. The
-- stored names stay, so that the data of an older version remains readable.
local P, TIME, NOW, RETENTION, ID = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5] or ''
local RECOUNTED = 50 -- workers whose room one script recounts, about
local WORK_MS = 90 -- time between two announcements of `work`, less than between two rounds of recovery (ms)
local CHANNEL, RECORD, LOG -- keys of the job in hand, see `use_job`
local WORKERS, DEADLINES, LENGTHS = P .. ':workers', P .. ':deadlines', P .. ':lengths'
local CARDS, ROOM, ROOM_SUMS = P .. ':worker:cards', P .. ':worker:room', P .. ':queues:room'
local PAUSED, DRAINING = P .. ':queues:paused', P .. ':workers:draining'
local TRACES = P .. ':traces'
local WEBHOOKS, WEBHOOK_TURNS, WEBHOOKS_ACTIVE = P .. ':webhooks', P .. ':webhooks:turns', P .. ':webhooks:active'

-- Make this job the one that the functions below act on.
local function use_job(id)
  ID = id
  CHANNEL = P .. ':job:{' .. ID .. '}'
  RECORD, LOG = CHANNEL .. ':record', CHANNEL .. ':events'
end
use_job(ID)

-- Return the owner of the job in hand, whose record is gone and with it the owner's name.
local function owner_of_lost()
  for _, owner in ipairs(redis.call('SMEMBERS', P .. ':keys')) do
    if redis.call('ZSCORE', P .. ':owner:' .. owner .. ':jobs', ID) then return owner end
  end
  return ''
end

local function waiting(queue) return P .. ':queue:' .. queue .. ':waiting' end
local function running(queue) return P .. ':queue:' .. queue .. ':running' end
local function worker_jobs(name) return P .. ':worker:' .. name .. ':jobs' end
local function undelivered(owner) return P .. ':owner:' .. owner .. ':webhooks' end

-- Return the length of a job: the number of its choices. A job whose record is lost counts as one.
local function length(id) return tonumber(redis.call('HGET', P .. ':job:{' .. id .. '}:record', 'length') or 1) end

-- Note that a job has joined a set of jobs (sign 1) or left it (sign -1). The stored numbers make sums cheap.
local function add_length(set, id, sign)
  local more = length(id) - 1
  if more > 0 and redis.call('HINCRBY', LENGTHS, set, sign * more) <= 0 then redis.call('HDEL', LENGTHS, set) end
end

-- Return the sum of the lengths of a set with so many jobs.
local function lengths(set, jobs)
  local more = redis.call('HGET', LENGTHS, set)
  if not more then return jobs end
  if jobs > 0 then return jobs + more end
  redis.call('HDEL', LENGTHS, set) -- an older version of Stoker removes jobs without their lengths
  return 0
end

local function total(set) return lengths(set, redis.call('SCARD', set)) end

local function join(set, id)
  if redis.call('SADD', set, id) == 1 then add_length(set, id, 1) end
end

local function leave(set, id)
  if redis.call('SREM', set, id) == 1 then add_length(set, id, -1) end
end

-- Enter how many slots a worker has and how many of them are free, and change the sums of its queue accordingly. `jobs`
-- is the number of its jobs, if the caller knows it. All arguments but the worker are nil if it is gone.
local function enter_room(worker, queue, all, jobs)
  local before = redis.call('HGET', ROOM, worker)
  local now
  if queue then
    local taken = all == 0 and 0 or jobs == 0 and 0 or total(worker_jobs(worker))
    now = string.format('%d %d %s', all, math.max(0, all - taken), queue)
  end
  if before == (now or false) then return end
  for sign, entry in pairs({ [-1] = before or nil, [1] = now }) do
    local slots, free, name = string.match(entry, '^(%d+) (%d+) (.*)$')
    if slots ~= '0' then redis.call('HINCRBY', ROOM_SUMS, name .. ' slots', sign * slots) end
    if free ~= '0' then redis.call('HINCRBY', ROOM_SUMS, name .. ' free', sign * free) end
  end
  if now then redis.call('HSET', ROOM, worker, now) else redis.call('HDEL', ROOM, worker) end
end

-- Enter the room of the worker with this card. Only a ready worker has room. A newer version may have changed the card.
local function enter_card(worker, card, jobs)
  local ready = card.state == 'ready' and type(card.slots) == 'number'
  enter_room(worker, tostring(card.queue), ready and card.slots or 0, jobs)
end

-- Enter the room of a worker whose jobs have changed.
local function update_room(worker)
  local slots, queue = string.match(redis.call('HGET', ROOM, worker) or '', '^(%d+) %d+ (.*)$')
  if queue then enter_room(worker, queue, tonumber(slots)) end
end

-- Recount the room of a part of the workers, the next ones with each call. Processes of an older version change cards
-- and jobs of workers without it.
local function recount_room()
  for field, key in pairs({ [':cards'] = CARDS, [':room'] = ROOM }) do
    local at = redis.call('HGET', ROOM_SUMS, field) or '0'
    local next_at, found = unpack(redis.call('HSCAN', key, at, 'COUNT', RECOUNTED))
    for i = 1, #found, 2 do
      local card = redis.call('HGET', CARDS, found[i])
      if card then enter_card(found[i], cjson.decode(card)) else enter_room(found[i]) end
    end
    if next_at ~= at then redis.call('HSET', ROOM_SUMS, field, next_at) end
  end
end

-- Return the time of the Redis server (s). Leases, deadlines and deletions use it, because the clocks of hosts can
-- differ. NOW is the same time as the caller knows it, for records and events.
-- It is the same in the whole script, as Redis stops its own clock meanwhile.
local script_time
local function clock()
  if not script_time then
    local time = redis.call('TIME')
    script_time = time[1] + time[2] / 1e6
  end
  return script_time
end

-- Take a round of a background task for the caller, unless one was taken in the interval (ms). Return -1 if the caller
-- has it, else the time until the next one (ms).
--
-- A key that expires later than that was written before the clock of Redis was set back.
local function take_round(task, interval)
  local key = P .. ':recovery:' .. task
  local left = redis.call('PTTL', key)
  if left >= 0 and left <= tonumber(interval) then return left end
  redis.call('SET', key, '1', 'PX', interval)
  return -1
end

local function lease(worker, ttl_s) redis.call('ZADD', WORKERS, clock() + ttl_s, worker) end

local function holds_lease(worker)
  local deadline = redis.call('ZSCORE', WORKERS, worker)
  return deadline and tonumber(deadline) > clock()
end

-- Tell the processes that wait for this topic (see announcements.py).
local function announce(topic) redis.call('PUBLISH', P .. ':announce:' .. topic, '') end

-- Return whether the queue is paused: its jobs wait, and no worker claims one.
local function is_paused(queue) return redis.call('SISMEMBER', PAUSED, queue) == 1 end

-- Note that a worker serves the model of this queue now.
local function see_model(queue) redis.call('ZADD', P .. ':models:seen', clock(), queue) end

-- Return whether the worker has renewed its lease since it had this end. `ended` '' means: whatever the end is.
local function renewed_since(worker, ended)
  return ended ~= '' and tonumber(redis.call('ZSCORE', WORKERS, worker) or 0) ~= tonumber(ended)
end

-- Number, log and publish one event. `fields` is a JSON object. `resume` is optional: data for the job's next
-- attempt, which is kept beside the event in the log and never published.
local function emit(kind, attempt, fields, resume)
  local n = redis.call('HINCRBY', RECORD, 'events', 1)
  local event = '{"n":' .. n .. ',"type":"' .. kind .. '","job":"' .. ID .. '","attempt":' .. attempt
    .. ',"time":"' .. TIME .. '"' .. (fields == '{}' and '}' or ',' .. string.sub(fields, 2))
  local entry = { n .. '-0', 'event', event }
  if resume and resume ~= '' then entry[4], entry[5] = 'resume', resume end
  redis.call('XADD', LOG, unpack(entry))
  redis.call('PUBLISH', CHANNEL, event)
end

-- Note that a try at the webhook of the job in hand is in flight. It counts as lost after the patience (s).
local function start_webhook_try(owner, host, patience_s)
  local ends = clock() + patience_s
  redis.call('ZADD', undelivered(owner), ends, ID)
  redis.call('HSET', WEBHOOKS_ACTIVE, ID, ends .. ' ' .. owner .. ' ' .. (host or ''))
end
