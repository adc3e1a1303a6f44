-- Makes an invite: the first device that brings it is in.
-- given: digest, seconds, most (invites that are open at once: the first to end makes place)
if redis.call('EXISTS', KEYS[1]) == 0 then return unchanged('unknown') end
keep_until('invites', given.digest, given.seconds, given.most)
happened('invite')
return changed('invite', {}, {})
