#!lua flags=allow-oom
-- Moves what may begin by now into a lane's line, and what there is room for from there into the lane.
-- KEYS  lane, line (5: see lib/line.lua)
-- ARGV  lane group, credit, ttl_ms, most
-- Returns {moved, fed}
local line = {KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6]}
local due = redis.call('ZRANGE', line[5], '-inf', now_ms(), 'BYSCORE', 'LIMIT', 0, ARGV[4])
for _, found in ipairs(due) do
  local priority, member = string.match(found, '^(%d) (.*)$')
  wait(line, tonumber(priority), member, ARGV[2], ARGV[3])
  redis.call('ZREM', line[5], found)
end
return {#due, feed(line, KEYS[1], ARGV[1], tonumber(ARGV[4]))}
