-- Dead letters: what a person must look at. Every one says the same of its evaluation.

-- about = {id, tenant, 'lane' | 'stream', its name, reason, error}; attempts and their owners are the record's to say.
-- Returns the letter's id; false when the key is not a stream any more: a result must not be lost to that.
local function dead_letter(dead, cap, record, about)
  if not holds(dead, 'stream') then
    return false
  end
  local found = holds(record, 'hash') and redis.call('HMGET', record, 'attempt', 'history') or {}
  return redis.call('XADD', dead, 'MAXLEN', '~', cap, '*', 'id', about[1], 'tenant', about[2], about[3], about[4],
    'reason', about[5], 'error', about[6], 'attempts', found[1] or 0, 'history', found[2] or '', 'at', now_ms())
end

-- Notes who had an attempt that left no result.
local function remember(record, owner)
  local history = redis.call('HGET', record, 'history')
  redis.call('HSET', record, 'history', (history and history .. ',' or '') .. owner)
end

-- Ends an evaluation as lost: its result, and a letter from which it can be run again. The record says which letter,
-- because an id may be used anew once a record has expired.
local function lost(keys, flow, dead, cap, reason, pairs_)
  local record = keys[1]
  terminal(keys, flow, 'lost', pairs_)
  local found = redis.call('HMGET', record, 'id', 'tenant', 'lane')
  local letter = dead_letter(dead, cap, record, {found[1], found[2], 'lane', found[3] or '', reason, value_of(pairs_, 'error')})
  if letter then
    redis.call('HSET', record, 'letter', letter)
  end
end
