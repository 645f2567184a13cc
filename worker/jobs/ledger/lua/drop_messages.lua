-- prefix → deletes the messages of the queues in which no job is dispatched. Nobody needs these messages: their jobs were
-- canceled, ended, or taken back, while no worker was there to fetch them. But they have the jobs' prompts.
for _, queue in ipairs(redis.call('SMEMBERS', P .. ':queues')) do
  if redis.call('EXISTS', dispatched(queue)) == 0 then redis.call('UNLINK', message_list(queue)) end
end
