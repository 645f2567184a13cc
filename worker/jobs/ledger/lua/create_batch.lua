-- prefix, batch id, owner, the most batches, then the fields (name, value), among them `input_file_id`, `fingerprint`
-- and `created_at`
-- → 'ok'; 'differs' if another request has made a batch with this id; 'file' if the owner has no such file; or 'full'
--   if the owner has so many unfinished batches
--
-- A repeated request gets the batch that the first one made. If the owner has the most batches, the oldest ended one
-- is deleted.
local id, owner, most = ARGV[2], ARGV[3], tonumber(ARGV[4])
local batches, index = P .. ':batches', P .. ':owner:' .. owner .. ':batches'
local fields = {}
for i = 5, #ARGV, 2 do fields[ARGV[i]] = ARGV[i + 1] end
local fingerprint = redis.call('HGET', P .. ':batch:' .. id, 'fingerprint')
if fingerprint then return fingerprint == fields.fingerprint and 'ok' or 'differs' end
if redis.call('HGET', P .. ':file:' .. fields.input_file_id, 'owner') ~= owner then return 'file' end
local unfinished, ended = 0, {}
for _, each in ipairs(redis.call('ZRANGE', index, 0, -1)) do
  if redis.call('ZSCORE', batches, each) then
    unfinished = unfinished + 1
  else
    ended[#ended + 1] = each
  end
end
if unfinished >= most then return 'full' end
for i = 1, #ended - most + 1 do
  redis.call('DEL', P .. ':batch:' .. ended[i])
  redis.call('ZREM', index, ended[i])
end
redis.call('HSET', P .. ':batch:' .. id, 'owner', owner, unpack(ARGV, 5))
redis.call('ZADD', index, fields.created_at, id)
redis.call('ZADD', batches, fields.created_at, id)
announce('batches')
return 'ok'
