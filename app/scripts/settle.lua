-- The owner came by a mailed link: the user stays, and the browser is remembered.
-- given: browser (a digest), detail (browser and place, for the activity)
if redis.call('EXISTS', KEYS[1]) == 0 then return unchanged('unknown') end
redis.call('PERSIST', KEYS[1])
for _, noun in ipairs(NOUNS) do redis.call('PERSIST', key(noun)) end
local outcome = 'settled'
if redis.call('ZCARD', key('browsers')) > 0 and not redis.call('ZSCORE', key('browsers'), given.browser) then
  outcome = 'new browser'
end
redis.call('ZADD', key('browsers'), now, given.browser)
redis.call('ZREMRANGEBYRANK', key('browsers'), 0, -51)
happened('login', '', given.detail)
return changed(outcome, {}, {})
