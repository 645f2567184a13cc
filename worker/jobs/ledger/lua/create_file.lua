-- prefix, file id, owner, time at which the file expires, the most files of the owner and the most bytes of them ('' for
-- any number), then the fields (name, value), among them `bytes` and `created_at`
-- → 'ok', or what the owner has too much of: 'files' or 'bytes'
--
-- A repeated call changes nothing.
local id, owner, expires_at, most_files, most_bytes = unpack(ARGV, 2, 6)
local key, index = P .. ':file:' .. id, P .. ':owner:' .. owner .. ':files'
if redis.call('EXISTS', key) == 1 then return 'ok' end
local fields = {}
for i = 7, #ARGV, 2 do fields[ARGV[i]] = ARGV[i + 1] end
if most_files ~= '' then
  local ids, bytes = redis.call('ZRANGE', index, 0, -1), tonumber(fields.bytes)
  if #ids >= tonumber(most_files) then return 'files' end
  for _, each in ipairs(ids) do bytes = bytes + (redis.call('HGET', P .. ':file:' .. each, 'bytes') or 0) end
  if bytes > tonumber(most_bytes) then return 'bytes' end
end
redis.call('HSET', key, 'owner', owner, unpack(ARGV, 7))
redis.call('ZADD', index, fields.created_at, id)
redis.call('ZADD', P .. ':files:expiry', expires_at, id)
return 'ok'
