// A real OAuth 2.0 issuer, npm's oidc-provider, for the tests: it replaces refresh tokens, detects their reuse, counts what it saw,
// and holds requests before or after it has dealt with them. It ends with its standard input.
//
// argv  the folder with node_modules; the settings as JSON:
//       window  milliseconds within which a refresh token may be presented again; 0: never
//       keys    a folder with the PEM files of keys.rs
import { createPublicKey } from 'node:crypto';
import { readFileSync } from 'node:fs';
import http from 'node:http';
import https from 'node:https';
import { pathToFileURL } from 'node:url';

const [folder, settings] = [process.argv[2], JSON.parse(process.argv[3])];
const load = (file) => import(pathToFileURL(`${folder}/node_modules/${file}`).href);
const { Provider, errors } = await load('oidc-provider/lib/index.js');
const jose = await load('jose/dist/webapi/index.js');
const pem = (name) => readFileSync(`${settings.keys}/${name}`);
const jwk = (name, kid) => ({ ...createPublicKey(pem(name)).export({ format: 'jwk' }), kid, use: 'sig' });

const stats = { logins: 0, requests: 0, rotations: 0, inside: 0, outside: 0, revoked: 0, invalid_grant: 0 };

// What the provider stores, in memory. Within the window a consumed refresh token is not shown as consumed.
const stored = new Map();
const consumed = new Map();
class Adapter {
  constructor(model) { this.model = model; }
  key(id) { return `${this.model}:${id}`; }
  async upsert(id, payload) { stored.set(this.key(id), payload); }
  async consume(id) {
    stored.get(this.key(id)).consumed = Math.floor(Date.now() / 1000);
    if (!consumed.has(id)) consumed.set(id, Date.now());
  }
  async find(id) {
    const payload = stored.get(this.key(id));
    const again = payload?.consumed && Date.now() - consumed.get(id) <= settings.window;
    return again ? { ...payload, consumed: undefined } : payload;
  }
  async findByUid(uid) { return [...stored.values()].find((payload) => payload.uid === uid); }
  async findByUserCode() { return undefined; }
  async destroy(id) { stored.delete(this.key(id)); }
  async revokeByGrantId(grant) {
    for (const [key, payload] of stored) if (payload.grantId === grant) stored.delete(key);
  }
}

const serving = { grant_types: ['client_credentials'], redirect_uris: [], response_types: [] };
const grants = ['urn:ietf:params:oauth:grant-type:jwt-bearer', 'urn:ietf:params:oauth:grant-type:token-exchange'];
const clients = [
  { ...serving, client_id: 'odd :+%/id', client_secret: 's%+ :1&=/?"', token_endpoint_auth_method: 'client_secret_basic' },
  { ...serving, client_id: 'post', client_secret: 'in the body &+', token_endpoint_auth_method: 'client_secret_post' },
  {
    ...serving, client_id: 'keyed', token_endpoint_auth_method: 'private_key_jwt',
    jwks: { keys: [jwk('rsa.pem', 'rsa'), jwk('ec.pem', 'ec')] },
  },
  { ...serving, client_id: 'certified', token_endpoint_auth_method: 'tls_client_auth', tls_client_auth_subject_dn: 'CN=client' },
  { ...serving, client_id: 'trader', client_secret: 'trade', grant_types: ['client_credentials', ...grants] },
  {
    client_id: 'user', client_secret: 'secret', grant_types: ['authorization_code', 'refresh_token'],
    redirect_uris: ['https://client.example.com/back'], response_types: ['code'],
  },
];
const format = (ctx) => (ctx.oidc.params.grant_type === 'refresh_token' ? 'jwt' : 'opaque'); // an opaque one can be looked up
const RESOURCES = ['https://a.example.com', 'https://b.example.com'];

const server = http.createServer();
await new Promise((listening) => server.listen(0, '127.0.0.1', listening));
const issuer = `http://127.0.0.1:${server.address().port}`;
const peer = (ctx) => ctx.socket.getPeerX509Certificate?.();
const provider = new Provider(issuer, {
  adapter: Adapter,
  clients,
  clientAuthMethods: ['client_secret_basic', 'client_secret_post', 'private_key_jwt', 'tls_client_auth'],
  scopes: ['openid', 'offline_access', 'api'],
  ttl: { AccessToken: 600, ClientCredentials: 600, RefreshToken: 86_400, Grant: 86_400 },
  findAccount: (_, id) => ({ accountId: id, claims: () => ({ sub: id }) }),
  rotateRefreshToken: () => true,
  features: {
    devInteractions: { enabled: false },
    clientCredentials: { enabled: true },
    mTLS: {
      enabled: true,
      tlsClientAuth: true,
      getCertificate: peer,
      certificateAuthorized: (ctx) => ctx.socket.authorized,
      certificateSubjectMatches: (ctx, _, expected) => peer(ctx)?.subject === expected,
    },
    resourceIndicators: {
      enabled: true,
      defaultResource: (ctx, client, one) => one ?? RESOURCES[0],
      useGrantedResource: () => false,
      getResourceServerInfo: (ctx, audience) => ({ scope: 'api', audience, accessTokenTTL: 600, accessTokenFormat: format(ctx) }),
    },
  },
});

const mint = async (ctx, scope) => new provider.ClientCredentials({ client: ctx.oidc.client, scope }).save();
const used = new Set();
provider.registerGrantType(grants[0], async (ctx) => {
  const key = createPublicKey(pem('rsa.pem'));
  const rules = { issuer: 'reports', audience: `${issuer}/token`, requiredClaims: ['exp', 'iat', 'jti', 'sub'] };
  const { payload } = await jose.jwtVerify(ctx.oidc.params.assertion, key, rules).catch(() => ({}));
  if (!payload || used.has(payload.jti)) throw new errors.InvalidGrant('a bad assertion');
  used.add(payload.jti);
  ctx.body = { access_token: await mint(ctx, payload.scope), token_type: 'Bearer', expires_in: 600 };
}, ['assertion']);
provider.registerGrantType(grants[1], async (ctx) => {
  const { subject_token: subject, subject_token_type: kind, audience } = ctx.oidc.params;
  const known = kind.endsWith(':access_token') && (await provider.ClientCredentials.find(subject));
  if (!known || audience !== 'invoices') throw new errors.InvalidRequest('a bad subject or audience');
  ctx.body = { access_token: await mint(ctx, 'api'), issued_token_type: kind, token_type: 'Bearer', expires_in: 600 };
}, ['subject_token', 'subject_token_type', 'audience']);

provider.on('grant.revoked', () => { stats.revoked += 1; });
provider.on('grant.error', (_, error) => { stats.invalid_grant += error.error === 'invalid_grant' ? 1 : 0; });

// A person logs in: the first refresh token of a new grant.
const login = async () => {
  stats.logins += 1;
  const client = await provider.Client.find('user');
  const grant = new provider.Grant({ accountId: 'somebody', clientId: 'user' });
  grant.addOIDCScope('openid offline_access api');
  RESOURCES.forEach((resource) => grant.addResourceScope(resource, 'api'));
  const grantId = await grant.save();
  return new provider.RefreshToken({
    accountId: 'somebody', client, grantId, gty: 'authorization_code', scope: 'openid offline_access api',
    resource: RESOURCES, claims: {}, authTime: Math.floor(Date.now() / 1000), expiresWithSession: false,
  }).save();
};

// One request is held at the point that was named; the others pass.
let point = null;
let go = () => {};
let [held, tellHeld] = [null, () => {}];
const stopAt = async (here) => {
  if (point !== here) return;
  point = null;
  await new Promise((opened) => { go = opened; tellHeld(); });
};
const orders = {
  '/login': login,
  '/stats': () => JSON.stringify(stats),
  '/hold/before': () => { point = 'before'; held = new Promise((tell) => { tellHeld = tell; }); return 'armed'; },
  '/hold/after': () => { point = 'after'; held = new Promise((tell) => { tellHeld = tell; }); return 'armed'; },
  '/held': async () => { await held; return 'held'; },
  '/go': () => { go(); return 'gone'; },
};
const first = new Map();
provider.use(async (ctx, next) => {
  if (orders[ctx.path]) {
    ctx.body = await orders[ctx.path]();
  } else if (ctx.path === '/token') {
    stats.requests += 1;
    await stopAt('before');
    const now = Date.now();
    await next();
    const presented = ctx.oidc?.params?.refresh_token;
    if (presented && first.has(presented)) {
      stats[now - first.get(presented) <= settings.window ? 'inside' : 'outside'] += 1;
    } else if (presented) {
      first.set(presented, now);
    }
    stats.rotations += presented && ctx.status === 200 ? 1 : 0;
    await stopAt('after');
  } else {
    await next();
  }
});

server.on('request', provider.callback());
const tls = { key: pem('server.key'), cert: pem('server.pem'), ca: pem('ca.pem'), requestCert: true, rejectUnauthorized: false };
const secure = https.createServer(tls, provider.callback());
await new Promise((listening) => secure.listen(0, '127.0.0.1', listening));
console.log(`listening ${issuer} https://127.0.0.1:${secure.address().port}`);
process.stdin.on('end', () => process.exit(0)).resume();
