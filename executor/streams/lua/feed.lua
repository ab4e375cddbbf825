#!lua flags=allow-oom
-- Moves what may wait by now into a lane's line, and what there is room for from there into the lane.
-- KEYS  lane, line (8: see lib/line.lua)
-- ARGV  lane group, credit, ttl_ms, most
-- Returns {moved, fed}
local lane, line = KEYS[1], rest(KEYS, 2)
local group, credit, ttl_ms, most = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4])
must_hold(lane, 'stream')
check_line(line)
local due = redis.call('ZRANGE', line[5], '-inf', now_ms(), 'BYSCORE', 'LIMIT', 0, most)
for _, found in ipairs(due) do
  local member = string.sub(found, 2)
  if owner_of(member) then  -- else no script put it there
    queue(line, lane, group, member, string.sub(found, 1, 1) == '=', credit, ttl_ms)
  end
  redis.call('ZREM', line[5], found)
end
if redis.call('EXISTS', line[6]) == 1 then
  redis.call('HSET', line[4], 'credit', credit)
  take_turns_again(line)
end
return {#due, feed(line, lane, group, most)}
