-- Writes a line into the book's activity.
-- given: what, name, detail
if redis.call('EXISTS', KEYS[1]) == 0 then return unchanged('unknown') end
happened(given.what, given.name, given.detail)
return changed('noted', {}, {})
