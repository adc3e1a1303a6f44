-- A browser types a code. It is gone after so many tries since it asked; it may fit only within so many tries of that
-- very code, which asking again does not give back.
-- given: most
if redis.call('EXISTS', key('code')) == 0 then return unchanged('gone') end
local tries, used = redis.call('HINCRBY', key('code'), 'tries', 1), redis.call('HINCRBY', key('code'), 'used', 1)
if tries > given.most then return unchanged('gone') end
if used > given.most then return unchanged('wrong') end
return unchanged('open')
