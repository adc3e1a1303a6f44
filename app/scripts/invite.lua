-- Makes an invite: the first device that brings it is in.
-- given: digest, seconds, most (invites that are open at once: the first to end makes place)
if redis.call('EXISTS', KEYS[1]) == 0 then return unchanged('unknown') end
local first, first_until
local count, rows = 0, redis.call('HGETALL', key('invites'))
for i = 1, #rows, 2 do
  local ends = tonumber(rows[i + 1])
  if ends <= now then
    redis.call('HDEL', key('invites'), rows[i])
  else
    count = count + 1
    if not first_until or ends < first_until then first, first_until = rows[i], ends end
  end
end
if count >= given.most then redis.call('HDEL', key('invites'), first) end
redis.call('HSET', key('invites'), given.digest, now + given.seconds)
happened('invite')
return changed('invite', {}, {})
