-- The whole book. Where a process is given, it hears of every change from here on.
-- given: process
if redis.call('EXISTS', KEYS[1]) == 0 then return unchanged('unknown') end
if given.process then
  redis.call('SADD', key('interest'), given.process)
  begin_version()
end
end_with_user()
local rids, seen = open_requests(), {}
for _, rid in ipairs(rids) do seen[rid] = true end
for _, rid in ipairs(redis.call('HKEYS', key('denied'))) do
  if not seen[rid] then rids[#rids + 1] = rid end
end
local version = tonumber(redis.call('GET', key('version')) or 0)
return answer('loaded', version, redis.call('ZRANGE', key('book'), 0, -1), rids)
