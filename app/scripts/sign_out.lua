-- Makes all links and sessions void: they are of an older generation.
-- given: generation (absent: whatever it is; else only one that is of this generation)
if redis.call('EXISTS', KEYS[1]) == 0 then return unchanged('unknown') end
if given.generation and tonumber(redis.call('HGET', KEYS[1], 'generation')) ~= given.generation then return unchanged('unknown') end
redis.call('HINCRBY', KEYS[1], 'generation', 1)
happened('signed out')
return changed('signed out', {}, {})
