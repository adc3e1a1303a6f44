-- The owner came by a mailed link: the user stays, and the browser is remembered.
-- given: browser (a digest), detail (browser and place, for the activity)
if redis.call('EXISTS', KEYS[1]) == 0 then return unchanged('unknown') end
redis.call('PERSIST', KEYS[1])
for _, noun in ipairs(NOUNS) do redis.call('PERSIST', key(noun)) end
local outcome = 'settled'
if redis.call('SCARD', key('browsers')) > 0 and redis.call('SISMEMBER', key('browsers'), given.browser) == 0 then
  outcome = 'new browser'
end
redis.call('SADD', key('browsers'), given.browser)
if redis.call('SCARD', key('browsers')) > 50 then redis.call('SPOP', key('browsers')) end
happened('login', '', given.detail)
return changed(outcome, {}, {})
