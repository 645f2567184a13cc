-- Celery messages. Each brings a job to a worker of its queue, or its webhook to a sender. The step that dispatches it
-- also pushes the message, so no crash can come between the two. kombu pops messages from the other end of the list.
--
-- ENVELOPE is a message as kombu writes it, with placeholders (worker/jobs/connection/envelope.py). Scripts.py adds it.
-- The header `record` is the job's record, so that a worker can prepare the job before its claim has come back. It is
-- null if the specification is longer than MAX_SPEC, or if MAX_RECORDS messages wait already: a message outlives its job
-- when no worker fetches it, and counts in no owner's account.
local MAX_SPEC, MAX_RECORDS = 65536, 256

-- Job id -> token ids of its short prompt (`prompt` of a record), which only a message has that this script pushes.
local short_prompts = {}

-- Return the text as the inside of a JSON string.
local function escaped(text) return string.sub(cjson.encode(text), 2, -2) end

-- Return the record of a job as a JSON object of strings.
local function record_json(id, record)
  local object, fields = { prompt = short_prompts[id] }, redis.call('HGETALL', record)
  for i = 1, #fields, 2 do object[fields[i]] = fields[i + 1] end
  return cjson.encode(object)
end

-- Return the list in which kombu keeps the messages of a queue.
local function message_list(queue) return P .. ':celery:' .. queue end

-- Push a message with this id, of a task whose argument is a job's id. `record` is JSON.
local function push(queue, task, id, job_id, retries, record)
  local values = {
    id = escaped(id),
    argument = escaped(escaped(job_id)), -- the body is JSON in a string
    queue = escaped(queue),
    task = escaped(task),
    retries = retries,
    tag = escaped(id) .. ':' .. string.format('%.6f', clock()),
    record = record,
  }
  redis.call('LPUSH', message_list(queue), (string.gsub(ENVELOPE, '@(%l+)@', values)))
end

-- Push the message of a waiting job.
local function push_message(queue, id)
  local record = P .. ':job:{' .. id .. '}:record'
  local short = redis.call('HSTRLEN', record, 'spec') <= MAX_SPEC
  local sent = short and redis.call('LLEN', message_list(queue)) < MAX_RECORDS
  push(queue, 'stoker.' .. string.match(queue, '^[^.]*'), id, id, 0, sent and record_json(id, record) or 'null')
end
