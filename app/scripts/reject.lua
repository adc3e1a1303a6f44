-- The owner does not want a device that asked.
-- given: fp, rid (absent: all requests of the fingerprint), seconds it stays denied
local rejected = {}
for _, rid in ipairs(open_requests()) do
  local fp, name, asked_as = unpack(redis.call('HMGET', key('request', rid), 'fp', 'name', 'asked_as'))
  if fp == given.fp and (not given.rid or given.rid == rid) then
    drop_request(rid)
    deny(rid, given.seconds)
    happened('rejected', name)
    rejected[#rejected + 1] = rid
    if asked_as then
      -- It showed its certificate afterwards, and would ask with the same claim again.
      deny(request_id(fp, asked_as), given.seconds)
      rejected[#rejected + 1] = request_id(fp, asked_as)
    end
  end
end
if #rejected == 0 then return unchanged('unknown') end
return changed('rejected', {}, rejected)
