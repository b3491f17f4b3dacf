// Makes the calls that a parameter file lists, by API v2, with npm tenpay and wechatpay-axios-plugin, and prints what
// became of each as JSON.
//
// Both clients verify what they are answered: the signature, and tenpay also who is named.

import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { Agent } from 'node:https';

const parameters = JSON.parse(readFileSync(process.argv[2], 'utf8'));
const require = createRequire(parameters.modules);
const Tenpay = require('tenpay');
const { Wechatpay } = require('wechatpay-axios-plugin');

const ca = readFileSync(parameters.authority_file);
const pfx = readFileSync(parameters.p12_file);
const plain = new Agent({ ca });
const certified = new Agent({ ca, pfx, passphrase: parameters.mchid });

function tenpay(call) {
  const { appid, mchid } = parameters;
  const api = new Tenpay({ appid, mchid, partnerKey: call.secret, pfx, notify_url: 'https://example.com/notify' });
  for (const [name, url] of Object.entries(api.urls)) {
    api.urls[name] = url.replace('https://api.mch.weixin.qq.com', parameters.base_url);
  }
  return api[call.tenpay](call.data);
}

async function axios(call) {
  const { appid, mchid, serial, private_key: privateKey, platform_keys: certs, base_url: baseURL } = parameters;
  const httpsAgent = call.axios.startsWith('secapi/') && !call.bare ? certified : plain;
  // It will not do without the keys of API v3, though they take no part.
  const client = new Wechatpay({ mchid, secret: call.secret, baseURL, httpsAgent, serial, privateKey, certs });
  const resource = call.axios.split('/').reduce((node, part) => node[part], client.v2);
  const answer = await resource.post({ appid, mch_id: mchid, ...call.data });
  return answer.data;
}

async function make(call) {
  try {
    return { data: await (call.tenpay ? tenpay(call) : axios(call)) };
  } catch (error) {
    return { error: error.code ?? error.name, message: error.message, data: error.response?.data };
  }
}

const outcomes = {};
for (const call of parameters.calls) {
  outcomes[call.name] = await make(call);
}
[plain, certified].forEach((agent) => agent.destroy());
process.stdout.write(JSON.stringify(outcomes));
// The clients keep connections of their own open.
process.exit(0);
