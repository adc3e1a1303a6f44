-- Takes a turn in all windows, or in none where one of them is full. A window begins with its first turn.
-- given: windows ({name, most, seconds} each)
for _, window in ipairs(given.windows) do
  if tonumber(redis.call('GET', key('limit', window.name)) or 0) >= window.most then return unchanged('full') end
end
for _, window in ipairs(given.windows) do
  if redis.call('INCR', key('limit', window.name)) == 1 then
    redis.call('EXPIRE', key('limit', window.name), window.seconds)
  end
end
return unchanged('taken')
