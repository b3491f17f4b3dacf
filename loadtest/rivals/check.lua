-- The decision: signature, timestamp, nonce and four counters. Answers 200, 400, 401, 403, 409 or 503.

local ffi = require "ffi"
local cjson = require "cjson"

local byte, find, format, sub = string.byte, string.find, string.format, string.sub
local floor = math.floor
-- The symbols of libcrypto come with nginx, which links it: the library is the one TLS would use.
local C = ffi.C

ffi.cdef [[
typedef struct bio_st BIO;
typedef struct evp_pkey_st EVP_PKEY;
typedef struct evp_pkey_ctx_st EVP_PKEY_CTX;
typedef struct evp_md_st EVP_MD;
typedef struct evp_md_ctx_st EVP_MD_CTX;
BIO *BIO_new_mem_buf(const void *buffer, int bytes);
int BIO_free(BIO *bio);
EVP_PKEY *PEM_read_bio_PUBKEY(BIO *bio, EVP_PKEY **key, void *callback, void *argument);
int EVP_PKEY_get_bits(const EVP_PKEY *key);
EVP_PKEY_CTX *EVP_PKEY_CTX_new(EVP_PKEY *key, void *engine);
int EVP_PKEY_verify_init(EVP_PKEY_CTX *context);
int EVP_PKEY_CTX_set_rsa_padding(EVP_PKEY_CTX *context, int padding);
int EVP_PKEY_CTX_set_signature_md(EVP_PKEY_CTX *context, const EVP_MD *digest);
int EVP_PKEY_verify(EVP_PKEY_CTX *context, const char *signature, size_t signature_bytes,
                    const unsigned char *digest, size_t digest_bytes);
EVP_MD *EVP_MD_fetch(void *library, const char *name, const char *properties);
EVP_MD_CTX *EVP_MD_CTX_new(void);
int EVP_DigestInit_ex2(EVP_MD_CTX *context, const EVP_MD *digest, const void *parameters);
int EVP_DigestUpdate(EVP_MD_CTX *context, const char *bytes, size_t count);
int EVP_DigestFinal_ex(EVP_MD_CTX *context, unsigned char *digest, unsigned int *bytes);
void ERR_clear_error(void);
]]

local SCHEME = "WECHATPAY2-SHA256-RSA2048 "
local RSA_PKCS1_PADDING = 1
local QUOTE = byte('"')

-- Fetched once: in OpenSSL 3 looking an algorithm up by name on every use costs more than hashing a small body.
local sha256 = C.EVP_MD_fetch(nil, "SHA256", nil)
local hasher = C.EVP_MD_CTX_new()
local digest = ffi.new("unsigned char[32]")

local Check = {}
Check.__index = Check

function Check.new(options)
    return setmetatable({
        keys = options.keys,
        skew_s_max = options.skew_s_max,
        zone_offset_s = options.zone_offset_s,
        store = options.store,
        contexts = {},
    }, Check)
end

local function respond(status, body)
    ngx.status = status
    -- With a length the answer is one chunk of bytes; without, nginx would use chunked coding.
    ngx.header.content_length = #body
    ngx.print(body)
end

local function refuse(status, code, message)
    return respond(status, format('{"code":"%s","message":"%s"}', code, message))
end

-- The pairs stand in any order, as clients write them in several. Plain finds are compiled by LuaJIT; patterns are not.
local function parse_authorization(header)
    if not header or sub(header, 1, #SCHEME) ~= SCHEME then
        return nil
    end
    local fields, position = {}, #SCHEME + 1
    while position <= #header do
        local equals = find(header, "=", position, true)
        if not equals or byte(header, equals + 1) ~= QUOTE then
            return nil
        end
        local close = find(header, '"', equals + 2, true)
        if not close then
            return nil
        end
        local name = sub(header, position, equals - 1)
        if fields[name] then
            return nil
        end
        fields[name] = sub(header, equals + 2, close - 1)
        if close < #header and sub(header, close + 1, close + 1) ~= "," then
            return nil
        end
        position = close + 2
    end
    if fields.mchid and fields.nonce_str and fields.signature and fields.timestamp and fields.serial_no then
        return fields
    end
    return nil
end

local function read_key(path)
    local file = io.open(path, "rb")
    if not file then
        return nil
    end
    local pem = file:read("*a")
    file:close()
    local bio = C.BIO_new_mem_buf(pem, #pem)
    local key = C.PEM_read_bio_PUBKEY(bio, nil, nil, nil)
    C.BIO_free(bio)
    if key == nil or C.EVP_PKEY_get_bits(key) ~= 2048 then
        C.ERR_clear_error()
        return nil
    end
    return key
end

-- The key is kept with a context prepared for PKCS #1 v1.5 and SHA-256, which may verify any number of times.
-- That leaves out the two fetches and the allocations which EVP_DigestVerifyInit would do on every request.
function Check:context(serial)
    local context = self.contexts[serial]
    if context then
        return context
    end
    -- The serial becomes a file name: hexadecimal digits only.
    if #serial > 40 or not find(serial, "^[0-9A-F]+$") then
        return nil
    end
    local key = read_key(self.keys .. "/" .. serial .. ".pem")
    if not key then
        return nil
    end
    context = C.EVP_PKEY_CTX_new(key, nil)
    if context == nil or C.EVP_PKEY_verify_init(context) ~= 1
        or C.EVP_PKEY_CTX_set_rsa_padding(context, RSA_PKCS1_PADDING) ~= 1
        or C.EVP_PKEY_CTX_set_signature_md(context, sha256) ~= 1 then
        C.ERR_clear_error()
        return nil
    end
    self.contexts[serial] = context
    return context
end

local function is_signed(context, message, signature)
    if C.EVP_DigestInit_ex2(hasher, sha256, nil) ~= 1
        or C.EVP_DigestUpdate(hasher, message, #message) ~= 1
        or C.EVP_DigestFinal_ex(hasher, digest, nil) ~= 1 then
        return false
    end
    if C.EVP_PKEY_verify(context, signature, #signature, digest, 32) == 1 then
        return true
    end
    -- A failure leaves entries in the error queue, which TLS on the same worker would trip over.
    C.ERR_clear_error()
    return false
end

-- Calendar day and month of the zone, worked out once a day.
function Check:periods(now)
    local day = floor((now + self.zone_offset_s) / 86400)
    if day ~= self.day then
        self.day = day
        self.day_ends = (day + 1) * 86400 - self.zone_offset_s
        self.month = os.date("!%Y%m", day * 86400)
    end
    return self.day, self.month, self.day_ends
end

local function parse_payment(body)
    local parsed, payment = pcall(cjson.decode, body)
    if not parsed or type(payment) ~= "table" or type(payment.amount) ~= "table" or type(payment.payer) ~= "table" then
        return nil
    end
    local total, customer = payment.amount.total, payment.payer.openid
    if type(total) ~= "number" or total < 1 or total > 1e12 or total % 1 ~= 0 or type(customer) ~= "string" then
        return nil
    end
    return total, customer, payment.mchid
end

function Check:answer()
    ngx.req.read_body()
    local fields = parse_authorization(ngx.var.http_authorization)
    local timestamp = fields and tonumber(fields.timestamp)
    local now = ngx.time()
    if not timestamp or math.abs(now - timestamp) > self.skew_s_max then
        return refuse(401, "SIGN_ERROR", "authorization missing, malformed or out of time")
    end
    local context = self:context(fields.serial_no)
    local signature = ngx.decode_base64(fields.signature)
    local body = ngx.req.get_body_data() or ""
    local message = ngx.req.get_method() .. "\n" .. ngx.var.request_uri .. "\n" .. fields.timestamp .. "\n"
        .. fields.nonce_str .. "\n" .. body .. "\n"
    if not context or not signature or not is_signed(context, message, signature) then
        return refuse(401, "SIGN_ERROR", "signature does not verify")
    end
    local amount, customer, mchid = parse_payment(body)
    if not amount or (mchid and mchid ~= fields.mchid) then
        return refuse(400, "PARAM_ERROR", "body is not a payment of this merchant")
    end
    local day, month, day_ends = self:periods(now)
    local verdict, limit = self.store:take(fields.mchid, fields.nonce_str, customer, amount, day, month, day_ends - now)
    if verdict == "admitted" then
        return respond(200, '{"decision":"admit"}')
    elseif verdict == "replayed" then
        return refuse(409, "REPLAYED", "nonce_str was used before")
    elseif verdict == "limited" then
        return refuse(403, "RULE_LIMIT", limit)
    end
    return refuse(503, "SERVICE_UNAVAILABLE", "store")
end

return Check
