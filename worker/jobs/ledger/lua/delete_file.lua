-- prefix, file id → 1 if the file is deleted, 0 if an unfinished batch needs it
--
-- The file leaves the lists here. Its content is removed afterwards, and then the caller removes it from `files:expiry`.
local id = ARGV[2]
local key = P .. ':file:' .. id
local owner = redis.call('HGET', key, 'owner')
for _, batch in ipairs(redis.call('ZRANGE', P .. ':owner:' .. (owner or '') .. ':batches', 0, -1)) do
  local needed = redis.call('HGET', P .. ':batch:' .. batch, 'input_file_id') == id
  if needed and redis.call('ZSCORE', P .. ':batches', batch) then return 0 end
end
if owner then redis.call('ZREM', P .. ':owner:' .. owner .. ':files', id) end
redis.call('DEL', key)
redis.call('ZADD', P .. ':files:expiry', 0, id)
return 1
