#!lua
-- Runs a lost evaluation again, under an id of its own: each id has exactly one terminal result.
-- KEYS  record, the new id's record, the new id's result, lane, ages, dead, line (8: see lib/line.lua)
-- ARGV  letter, new id, record_ttl_ms, max_age_ms, lane group, credit
-- Atomic: record + lane entry of the new one, a mark on the old record, and the letter is gone (deleted: no group reads
-- that stream, so no lag can suffer). Repeating it for the same letter answers with what it did the first time.
-- Returns {'again', new id} | {'taken'} (the new id is known: try the next one)
--       | {'gone'}    no such letter: purged, or pushed out by newer ones
--       | {'expired'} the request is not kept: no record, or that of a later evaluation of the id
local letter, id = ARGV[1], ARGV[2]
must_hold(KEYS[1], 'hash')
local names = {'payload', 'lane', 'max_attempts', 'reply_to', 'stream'}
local found = redis.call('HMGET', KEYS[1], 'letter', 'redriven_as', 'id', 'tenant', 'traceparent', unpack(names))
local priority = redis.call('HGET', KEYS[1], 'priority') or 2
if found[1] ~= letter or not found[6] then
  return {'expired'}
elseif found[2] then
  return {'again', found[2]}
elseif #redis.call('XRANGE', KEYS[6], letter, letter) == 0 then
  return {'gone'}
elseif redis.call('EXISTS', KEYS[2], KEYS[3]) > 0 then
  return {'taken'}
end
must_hold(KEYS[4], 'stream')
must_hold(KEYS[5], 'zset')
check_line(rest(KEYS, 7))
local fields = {'redrive_of', found[3]}
for i, name in ipairs(names) do
  fields[#fields + 1] = name
  fields[#fields + 1] = found[i + 5]
end
fields[#fields + 1] = 'entry'
fields[#fields + 1] = now_ms() .. '-0' -- its trace begins here
local terms = {ARGV[3], ARGV[4], ARGV[5], ARGV[6], priority, 0, 0}
enter(KEYS[2], KEYS[4], KEYS[5], rest(KEYS, 7), id, found[4], found[5], terms, fields)
redis.call('HSET', KEYS[1], 'redriven_as', id)
redis.call('XDEL', KEYS[6], letter)
return {'again', id}
