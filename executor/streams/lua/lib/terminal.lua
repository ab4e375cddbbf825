-- Shared by every script that ends an evaluation. Writes the one terminal result everywhere it is promised.
--
-- keys  = {record, result, results, reply or false, output or false, ages and usage, or nil for what never was in a line}
-- flow  = {result_ttl_ms, results_cap, reply_ttl_ms, reply_cap}
-- pairs = flat field/value list of the readable result, `outcome` among them
--
-- Types are checked before the first write, so that a foreign key cannot leave half a result. A reply or output
-- key that is not a stream any more is skipped: the result itself must not be lost to it.

local function holds(key, kind)
  local found = redis.call('TYPE', key).ok
  return found == 'none' or found == kind
end

local function must_hold(key, kind)
  if not holds(key, kind) then
    error({err = 'WRONGTYPE ' .. key .. ' should hold a ' .. kind})
  end
end

-- The result as stream fields: long values are left out and named in `omitted`, the result hash has them.
local function inline(pairs_, limit)
  local out, omitted = {}, {}
  for i = 1, #pairs_, 2 do
    if #pairs_[i + 1] <= limit then
      out[#out + 1] = pairs_[i]
      out[#out + 1] = pairs_[i + 1]
    else
      omitted[#omitted + 1] = pairs_[i]
    end
  end
  if #omitted > 0 then
    out[#out + 1] = 'omitted'
    out[#out + 1] = table.concat(omitted, ',')
  end
  return out
end

local function value_of(pairs_, name)
  for i = 1, #pairs_, 2 do
    if pairs_[i] == name then
      return pairs_[i + 1]
    end
  end
  return ''
end

local function reply(key, ttl_ms, cap, fields)
  if key and holds(key, 'stream') then
    redis.call('XADD', key, 'MAXLEN', '~', cap, '*', unpack(fields))
    redis.call('PEXPIRE', key, ttl_ms)
  end
end

local RESULTS_INLINE, REPLY_INLINE = 4096, 131072

local function terminal(keys, flow, outcome, pairs_)
  must_hold(keys[1], 'hash')
  must_hold(keys[2], 'hash')
  must_hold(keys[3], 'stream')
  local record, result, results, reply_key, output = keys[1], keys[2], keys[3], keys[4], keys[5]
  pairs_[#pairs_ + 1] = 'finished_at'
  pairs_[#pairs_ + 1] = tostring(now_ms())
  redis.call('HSET', result, unpack(pairs_))
  redis.call('PEXPIRE', result, flow[1])
  redis.call('HSET', record, 'state', 'done', 'outcome', outcome)
  redis.call('HDEL', record, 'owner', 'cancel')
  if outcome ~= 'lost' then -- what is lost can be run again
    redis.call('HDEL', record, 'payload')
  end
  redis.call('PEXPIRE', record, flow[1])
  if keys[6] then
    redis.call('ZREM', keys[6], record)
    unmark(keys[7], value_of(pairs_, 'tenant'), value_of(pairs_, 'id'))
  end
  redis.call('XADD', results, 'MAXLEN', '~', flow[2], '*', unpack(inline(pairs_, RESULTS_INLINE)))
  reply(reply_key, flow[3], flow[4], inline(pairs_, REPLY_INLINE))
  if output and holds(output, 'stream') then
    redis.call('XADD', output, '*', 'end', outcome)
    redis.call('PEXPIRE', output, flow[3])
  end
end

-- Answers a second request for an id that is known: the first one's state, with its result when there is one.
local function duplicate(record, result, reply_key, flow, id, tenant)
  local first = redis.call('HMGET', record, 'state', 'outcome')
  local fields = {'id', id, 'tenant', tenant}
  if first[1] == 'done' and redis.call('EXISTS', result) == 1 then
    fields = inline(redis.call('HGETALL', result), REPLY_INLINE)
  end
  for _, value in ipairs({'state', first[1] or '', 'duplicate', '1'}) do
    fields[#fields + 1] = value
  end
  reply(reply_key, flow[3], flow[4], fields)
  return {'duplicate', first[1] or '', first[2] or ''}
end

-- The optional keys of a script are passed as the results key with a flag of '0'.
local function optional(key, flag)
  return flag == '1' and key or false
end

local function rest(list, from)
  local out = {}
  for i = from, #list do
    out[#out + 1] = list[i]
  end
  return out
end
