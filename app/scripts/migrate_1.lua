-- From schema 0 to 1: activity was a stream, browsers were a set, and the folded name was always kept.
-- What is done already is left as it is, so a walk that was cut short begins anew.
-- given: nothing
if redis.call('EXISTS', KEYS[1]) == 0 then return unchanged('unknown') end
if redis.call('TYPE', key('activity')).ok == 'stream' then
  local entries = redis.call('XREVRANGE', key('activity'), '+', '-', 'COUNT', 200)
  redis.call('DEL', key('activity'))
  for _, entry in ipairs(entries) do
    local line, at = {}, math.floor(tonumber(string.match(entry[1], '^%d+')) / 1000)
    for i = 1, #entry[2], 2 do line[entry[2][i]] = entry[2][i + 1] end
    redis.call('RPUSH', key('activity'), cjson.encode({at, line.what, line.name, line.detail}))
  end
end
if redis.call('TYPE', key('browsers')).ok == 'set' then
  local browsers = redis.call('SMEMBERS', key('browsers'))
  redis.call('DEL', key('browsers'))
  for _, browser in ipairs(browsers) do redis.call('ZADD', key('browsers'), now, browser) end
end
local fps = redis.call('ZRANGE', key('book'), 0, -1)
for _, fp in ipairs(fps) do
  local name, fold = unpack(redis.call('HMGET', key('peer', fp), 'name', 'fold'))
  if fold == string.lower(name) then redis.call('HDEL', key('peer', fp), 'fold') end
end
end_with_user()
return answer('migrated', tonumber(redis.call('GET', key('version')) or 0), fps, {})
