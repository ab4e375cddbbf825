#!lua
-- Takes one valid request from ingress. The only way new work comes to a lane, but for redrive.lua.
-- KEYS  record, result, results, reply | results, lane, ingress, ages, line (8: see lib/line.lua), once | results,
--       output | results
-- ARGV  has_reply, result_ttl_ms, results_cap, reply_ttl_ms, reply_cap,
--       ingress group, ingress entry, id, tenant, traceparent, terms (7: see lib/enter.lua), has_once, has_output,
--       record field/value...
-- Atomic: record + place in the lane or line + acknowledgement of the ingress entry.
-- Returns {'admitted'} | {'duplicate', state, outcome} | {'once', first id} (its idempotency key was used before)
--       | {'reply_type' | 'once_type'} (nothing written: reject it)
--       | {'unanswerable', why} (nothing written: bury it)
local reply_key = optional(KEYS[4], ARGV[1])
local flow = {ARGV[2], ARGV[3], ARGV[4], ARGV[5]}
local group, entry, id, tenant, traceparent = ARGV[6], ARGV[7], ARGV[8], ARGV[9], ARGV[10]
local kind = redis.call('TYPE', KEYS[1]).ok
if kind == 'hash' then
  local answer = duplicate(KEYS[1], KEYS[2], reply_key, flow, id, tenant)
  redis.call('XACK', KEYS[6], group, entry)
  return answer
elseif kind ~= 'none' then
  return {'unanswerable', foreign(KEYS[1], 'hash')}
end
if reply_key and not holds(reply_key, 'stream') then
  return {'reply_type'}
end
local once = optional(KEYS[16], ARGV[18])
if once and not holds(once, 'string') then
  return {'once_type'}
end
local first = once and redis.call('GET', once)
if first then
  -- Its record only says which evaluation is meant; that one has the state and the result.
  redis.call('HSET', KEYS[1], 'id', id, 'tenant', tenant, 'state', 'duplicate', 'duplicate_of', first)
  redis.call('PEXPIRE', KEYS[1], flow[1])
  reply(reply_key, flow[3], flow[4], {'id', id, 'tenant', tenant, 'state', 'duplicate', 'duplicate_of', first})
  local output = optional(KEYS[17], ARGV[19])
  if output and holds(output, 'stream') then
    redis.call('XADD', output, '*', 'end', 'duplicate')  -- whoever follows it need not wait
    redis.call('PEXPIRE', output, flow[3])
  end
  redis.call('XACK', KEYS[6], group, entry)
  return {'once', first}
end
local line = {unpack(KEYS, 8, 15)}
must_hold(KEYS[5], 'stream')
must_hold(KEYS[7], 'zset')
check_line(line)
if once then
  redis.call('SET', once, id, 'PX', ARGV[11])
end
local terms, fields = {unpack(ARGV, 11, 17)}, rest(ARGV, 20)
fields[#fields + 1] = 'entry'
fields[#fields + 1] = entry
enter(KEYS[1], KEYS[5], KEYS[7], line, id, tenant, traceparent, terms, fields)
redis.call('XACK', KEYS[6], group, entry)
return {'admitted'}
