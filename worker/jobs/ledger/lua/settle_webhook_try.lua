-- … owner, outcome ('delivered', 'given_up' or 'retried'), time (s) at which the next try is due if there is one
-- → ends a try at the job's webhook, and counts its outcome. A repeated call changes nothing.
local owner, outcome, due = ARGV[6], ARGV[7], ARGV[8]
local changed
if outcome == 'retried' then
  changed = redis.call('ZADD', undelivered(owner), 'XX', 'CH', due, ID)
else
  changed = redis.call('ZREM', undelivered(owner), ID)
end
redis.call('HDEL', WEBHOOKS_ACTIVE, ID)
if changed == 1 then count('stoker_webhook_deliveries_total', outcome) end
