-- How the peer's latest connection went. One for each peer, so a book keeps no more of them than it has peers.
-- given: fp, target, result, milliseconds
if peer_field(given.fp, 'state') ~= 'verified' then return unchanged('unknown') end
redis.call('HSET', key('peer', given.fp), 'outcome',
  given.target .. ' ' .. given.result .. ' ' .. string.format('%d', given.milliseconds) .. ' ' .. now)
return changed('noted', {given.fp}, {})
