-- Takes everybody offline who was online with a process that is no more.
-- given: process
local gone, places = {}, redis.call('HGETALL', key('online'))
local mine = given.process .. ' '
for i = 1, #places, 2 do
  if string.sub(places[i + 1], 1, #mine) == mine then
    redis.call('HDEL', key('online'), places[i])
    gone[#gone + 1] = places[i]
  end
end
local result = #gone == 0 and unchanged('nobody') or changed('forgotten', gone, {})
redis.call('SREM', key('interest'), given.process) -- not before: if it lives after all, it has to hear of this
return result
