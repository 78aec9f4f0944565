"""What the server does in one step: Lua scripts, each on the keys that it is given and no others.

In a record's hash `v` is the version and `d` the document; where they are missing it does not count
yet. A script may be run again with the same
arguments, as its answer may have been lost.

They are sent whole each time: it costs as little as their digest does, and a server that was
restarted knows them at once.
"""

from __future__ import annotations

# A hint must not make a write fail: hence pcall, for users who may not publish.
_TELL = "if {hint} ~= '' then redis.pcall('PUBLISH', {channel}, {hint}) end"

# record; document, expiry (ms) or '', channel, hint or '', fields and values …
# Returns 0 if another document is there.
CREATE = f"""
local stored = redis.call('HGET', KEYS[1], 'd')
if stored then return stored == ARGV[1] and 1 or 0 end
redis.call('HSET', KEYS[1], unpack(ARGV, 5))
if ARGV[2] ~= '' then redis.call('PEXPIREAT', KEYS[1], ARGV[2]) end
{_TELL.format(channel="ARGV[3]", hint="ARGV[4]")}
return 1
"""

# record; channel, hint. Makes a record count that was only prepared; returns the document.
CONFIRM = f"""
local stored = redis.call('HMGET', KEYS[1], 'd', 'prepared d', 'prepared v')
if stored[1] then return stored[1] end
if not stored[2] then return false end
redis.call('HSET', KEYS[1], 'd', stored[2], 'v', stored[3])
redis.call('HDEL', KEYS[1], 'prepared d', 'prepared v')
redis.call('PERSIST', KEYS[1])
{_TELL.format(channel="ARGV[1]", hint="ARGV[2]")}
return stored[2]
"""

# record. Deletes a record that was only prepared.
TAKE_BACK = """
if redis.call('HEXISTS', KEYS[1], 'd') == 1 then return 0 end
return redis.call('UNLINK', KEYS[1])
"""

# record, list of chunks; old version, version, document, expiry (ms) or '', channel, hint or ''.
# Returns nothing if the version is another one; else, where there is an expiry, the dedupe key
# or '' and the list of chunks, for their keys to get it too.
SWAP = f"""
local stored = redis.call('HMGET', KEYS[1], 'v', 'd', 'k')
if stored[1] ~= ARGV[1] and stored[2] ~= ARGV[3] then return false end
redis.call('HSET', KEYS[1], 'v', ARGV[2], 'd', ARGV[3])
{_TELL.format(channel="ARGV[5]", hint="ARGV[6]")}
if ARGV[4] == '' then
  redis.call('PERSIST', KEYS[1])
  return {{}}
end
redis.call('PEXPIREAT', KEYS[1], ARGV[4])
redis.call('PEXPIREAT', KEYS[2], ARGV[4])
return {{stored[3] or '', redis.call('SMEMBERS', KEYS[2])}}
"""

# list of chunks, chunk; member, data. A chunk that comes after the end lives no longer than the
# list: nothing could find it then.
WRITE_CHUNK = """
redis.call('SADD', KEYS[1], ARGV[1])
redis.call('SET', KEYS[2], ARGV[2])
local left = redis.call('PTTL', KEYS[1])
if left > 0 then redis.call('PEXPIRE', KEYS[2], left) end
return 1
"""

# record, list of chunks, chunk …; members … Deletes the request, too.
DISCARD = """
redis.call('HDEL', KEYS[1], 'r')
if #ARGV > 0 then
  redis.call('UNLINK', unpack(KEYS, 3))
  redis.call('SREM', KEYS[2], unpack(ARGV))
end
return 1
"""

# record, list of chunks, chunk …; version, members … Deletes an operation if it still has this
# version and no other chunks. Returns nothing if not; else its dedupe key or ''.
PURGE = """
if redis.call('HGET', KEYS[1], 'v') ~= ARGV[1] then return false end
if #ARGV > 1 then
  redis.call('UNLINK', unpack(KEYS, 3))
  redis.call('SREM', KEYS[2], unpack(ARGV, 2))
end
if redis.call('EXISTS', KEYS[2]) == 1 then return false end
local dedupe = redis.call('HGET', KEYS[1], 'k')
redis.call('UNLINK', KEYS[1])
return dedupe or ''
"""

# key; value, command, arguments … Runs the command on the key if it still has the value.
IF_IT_HOLDS = """
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
redis.call(ARGV[2], KEYS[1], unpack(ARGV, 3))
return 1
"""

# index; score, member, count. Returns members and scores after that place. Compares bytes itself,
# as Lua's `>` asks the server's locale.
READ_INDEX = """
local function is_after(a, b)
  for i = 1, math.min(#a, #b) do
    local x, y = a:byte(i), b:byte(i)
    if x ~= y then return x > y end
  end
  return #a > #b
end
local low = redis.call('ZCOUNT', KEYS[1], '-inf', '(' .. ARGV[1])
local high = low + redis.call('ZCOUNT', KEYS[1], ARGV[1], ARGV[1])
while low < high do
  local middle = math.floor((low + high) / 2)
  if is_after(redis.call('ZRANGE', KEYS[1], middle, middle)[1], ARGV[2]) then
    high = middle
  else
    low = middle + 1
  end
end
return redis.call('ZRANGE', KEYS[1], low, low + ARGV[3] - 1, 'WITHSCORES')
"""

# record, index; version or '' for none, member. Removes an entry if the record is still that one.
# Not in a cluster, where the two keys lie on different nodes.
REMOVE_ENTRY = """
local stored = redis.call('HMGET', KEYS[1], 'v', 'prepared v')
if (stored[1] or '') ~= ARGV[1] or stored[2] then return 0 end
return redis.call('ZREM', KEYS[2], ARGV[2])
"""

# index; score, members … Removes the members that have this score or a lower one.
REMOVE_UNTIL = """
for i = 2, #ARGV do
  local score = redis.call('ZSCORE', KEYS[1], ARGV[i])
  if score and tonumber(score) <= tonumber(ARGV[1]) then
    redis.call('ZREM', KEYS[1], ARGV[i])
  end
end
return 1
"""

# any key: the node that has it is the one whose clock all ask.
TIME = "return redis.call('TIME')"
