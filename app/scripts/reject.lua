-- The owner does not want a device that asked.
-- given: fp, rid (absent: all requests of the fingerprint), seconds it stays denied
local rejected = {}
for _, rid in ipairs(open_requests()) do
  local fp, name = unpack(redis.call('HMGET', key('request', rid), 'fp', 'name'))
  if fp == given.fp and (not given.rid or given.rid == rid) then
    drop_request(rid)
    deny(rid, given.seconds)
    happened('rejected', name)
    rejected[#rejected + 1] = rid
  end
end
if #rejected == 0 then return unchanged('unknown') end
return changed('rejected', {}, rejected)
