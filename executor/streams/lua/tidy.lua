#!lua flags=allow-oom
-- Keeps one stream short and its lag exact.
-- KEYS  stream
-- ARGV  group
-- Trims behind the lowest of oldest pending and last delivered: an acknowledged entry is never deleted one by one
-- (a tombstone makes lag nil). A nil lag (restart or failover of some servers) is repaired by telling the group how
-- many entries it has read.
-- Returns {trimmed, repaired (0 | 1)}
local group, repaired = group_of(KEYS[1], ARGV[1]), 0
if not group then
  return {0, 0}
end
local low = group['last-delivered-id']
local pending = redis.call('XPENDING', KEYS[1], ARGV[1])
if pending[1] > 0 then
  low = pending[2]
end
if not group['lag'] then
  local undelivered = #redis.call('XRANGE', KEYS[1], '(' .. group['last-delivered-id'], '+')
  local info = redis.call('XINFO', 'STREAM', KEYS[1])
  for i = 1, #info, 2 do
    if info[i] == 'entries-added' then
      redis.call('XGROUP', 'SETID', KEYS[1], ARGV[1], group['last-delivered-id'],
        'ENTRIESREAD', info[i + 1] - undelivered)
      repaired = 1
    end
  end
end
return {redis.call('XTRIM', KEYS[1], 'MINID', low), repaired}
