-- The owner does not want a device that asked.
-- given: fp, rid (absent: all requests of the fingerprint), seconds it stays denied
local dropped
if given.rid then
  if redis.call('HGET', key('request', given.rid), 'fp') ~= given.fp then return unchanged('unknown') end
  drop_request(given.rid)
  dropped = {given.rid}
else
  dropped = drop_requests_of(given.fp)
end
if #dropped == 0 then return unchanged('unknown') end
for _, rid in ipairs(dropped) do deny(rid, given.seconds) end
return changed('rejected', {}, dropped)
