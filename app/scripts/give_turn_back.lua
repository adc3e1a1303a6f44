-- Gives a turn back that was taken for nothing; a window that ended since has none of it.
-- given: windows ({name, most, seconds} each)
for _, window in ipairs(given.windows) do
  if tonumber(redis.call('GET', key('limit', window.name)) or 0) > 0 then redis.call('DECR', key('limit', window.name)) end
end
return unchanged('given back')
