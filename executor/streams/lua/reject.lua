#!lua
-- Ends a request that is not acceptable. It never had a lane entry.
-- KEYS  record, result, results, reply | results, output | results, ages, ingress
-- ARGV  has_reply, has_output, result_ttl_ms, results_cap, reply_ttl_ms, reply_cap,
--       ingress group, ingress entry, id, tenant, result field/value...
-- Returns {'rejected'} | {'duplicate', state, outcome} | {'unanswerable', why} (nothing written: bury it)
local reply_key = optional(KEYS[4], ARGV[1])
local flow = {ARGV[3], ARGV[4], ARGV[5], ARGV[6]}
local id, tenant = ARGV[9], ARGV[10]
local answer = {'rejected'}
if not holds(KEYS[1], 'hash') then
  return {'unanswerable', foreign(KEYS[1], 'hash')}
elseif redis.call('EXISTS', KEYS[1]) == 1 then
  answer = duplicate(KEYS[1], KEYS[2], reply_key, flow, id, tenant)
elseif not holds(KEYS[2], 'hash') then
  return {'unanswerable', foreign(KEYS[2], 'hash')}
else
  terminal({KEYS[1], KEYS[2], KEYS[3], reply_key, optional(KEYS[5], ARGV[2])}, flow, 'rejected', rest(ARGV, 11))
  redis.call('HSET', KEYS[1], 'id', id, 'tenant', tenant, 'attempt', 0, 'generation', 0)
end
redis.call('XACK', KEYS[7], ARGV[7], ARGV[8])
return answer
