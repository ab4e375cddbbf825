#!lua
-- Takes one valid request from ingress into its lane. The only way work enters a lane.
-- KEYS  record, result, results, reply | results, lane, ingress, ages
-- ARGV  has_reply, result_ttl_ms, results_cap, reply_ttl_ms, reply_cap,
--       ingress group, ingress entry, id, tenant, traceparent, record_ttl_ms, max_age_ms, record field/value...
-- Atomic: record + lane entry + acknowledgement of the ingress entry.
-- Returns {'admitted', lane entry id} | {'duplicate', state, outcome} | {'reply_type'} (nothing written: reject it)
local reply_key = optional(KEYS[4], ARGV[1])
local flow = {ARGV[2], ARGV[3], ARGV[4], ARGV[5]}
local group, entry, id, tenant = ARGV[6], ARGV[7], ARGV[8], ARGV[9]
must_hold(KEYS[1], 'hash')
must_hold(KEYS[5], 'stream')
must_hold(KEYS[7], 'zset')
if redis.call('EXISTS', KEYS[1]) == 1 then
  local answer = duplicate(KEYS[1], KEYS[2], reply_key, flow, id, tenant)
  redis.call('XACK', KEYS[6], group, entry)
  return answer
end
if reply_key and not holds(reply_key, 'stream') then
  return {'reply_type'}
end
redis.call('HSET', KEYS[1], 'id', id, 'tenant', tenant, 'state', 'queued', 'attempt', 0, 'generation', 0,
  'entry', entry, 'queued_at', now_ms(), 'traceparent', ARGV[10], unpack(rest(ARGV, 13)))
redis.call('PEXPIRE', KEYS[1], ARGV[11])
redis.call('ZADD', KEYS[7], now_ms() + ARGV[12], KEYS[1])
redis.call('PEXPIRE', KEYS[7], ARGV[11])
local added = redis.call('XADD', KEYS[5], '*', 'id', id, 'tenant', tenant, 'attempt', 1, 'traceparent', ARGV[10])
redis.call('XACK', KEYS[6], group, entry)
return {'admitted', added}
