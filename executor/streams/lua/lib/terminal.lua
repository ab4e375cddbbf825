-- Shared by every script that ends an evaluation. Writes the one terminal result everywhere it is promised.
--
-- keys  = {record, result, results, reply or false, output or false, ages and usage, or nil for what never was in a line}
-- flow  = {result_ttl_ms, results_cap, reply_ttl_ms, reply_cap}
-- pairs = flat field/value list of the readable result, `outcome` among them
--
-- What only this evaluation uses must not keep it from ending: of its record, result, reply and output the one that
-- holds something else is left alone, and the others have the whole result. What all share is checked before the first
-- write: it raises WRONGTYPE, nothing is done, and it can be done once the key is gone.

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

-- Returns what a person must remove: the record or result that holds something else; nil when all is well.
local function terminal(keys, flow, outcome, pairs_)
  must_hold(keys[3], 'stream')
  local record, result, results, reply_key, output = keys[1], keys[2], keys[3], keys[4], keys[5]
  local known, readable = holds(record, 'hash'), holds(result, 'hash')
  if not known and readable and redis.call('EXISTS', result) == 1 then
    return foreign(record, 'hash')  -- it has its one result
  end
  pairs_[#pairs_ + 1] = 'finished_at'
  pairs_[#pairs_ + 1] = tostring(now_ms())
  if readable then
    redis.call('HSET', result, unpack(pairs_))
    redis.call('PEXPIRE', result, flow[1])
  end
  if known then
    redis.call('HSET', record, 'state', 'done', 'outcome', outcome)
    redis.call('HDEL', record, 'owner', 'cancel')
    if outcome ~= 'lost' then -- what is lost can be run again
      redis.call('HDEL', record, 'payload')
    end
    redis.call('PEXPIRE', record, flow[1])
  end
  if keys[6] then
    redis.pcall('ZREM', keys[6], record)  -- where that is not ours any more, nor is what it says
    unmark(keys[7], value_of(pairs_, 'tenant'), value_of(pairs_, 'id'))
  end
  local all = not readable and math.huge
  redis.call('XADD', results, 'MAXLEN', '~', flow[2], '*', unpack(inline(pairs_, all or RESULTS_INLINE)))
  reply(reply_key, flow[3], flow[4], inline(pairs_, all or REPLY_INLINE))
  if output and holds(output, 'stream') then
    redis.call('XADD', output, '*', 'end', outcome)
    redis.call('PEXPIRE', output, flow[3])
  end
  return not known and foreign(record, 'hash') or not readable and foreign(result, 'hash') or nil
end

-- Answers a second request for an id that is known: the first one's state, with its result when there is one.
local function duplicate(record, result, reply_key, flow, id, tenant)
  local first = redis.call('HMGET', record, 'state', 'outcome')
  local fields = {'id', id, 'tenant', tenant}
  if first[1] == 'done' and redis.call('TYPE', result).ok == 'hash' then
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
