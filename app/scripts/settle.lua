-- The owner came by a mailed link: the user stays.
if redis.call('EXISTS', KEYS[1]) == 0 then return unchanged('unknown') end
for _, noun in ipairs({'user', 'version', 'requests', 'denied', 'interest', 'online', 'book'}) do
  redis.call('PERSIST', key(noun))
end
return unchanged('settled')
