// Starts the Unleash server for one test. All that it must know comes from the environment, so
// that nothing secret stands in the list of processes:
//
//   DATABASE_URL                    postgres://user:password@host:port/database
//   PORT                            on loopback
//   ADMIN_TOKEN, OTHER_ADMIN_TOKEN  *:*.secret
//   FRONTEND_TOKENS                 JSON list of {environment, projects, secret}
import { start } from 'unleash-server';

const env = (name) => {
  const value = process.env[name];
  if (!value) throw new Error(`start.mjs: the environment has no ${name}`);
  return value;
};

const token = (type, tokenName, secret, environment, projects) => ({ type, tokenName, secret, environment, projects });

await start({
  databaseUrl: env('DATABASE_URL'),
  db: { ssl: false },
  server: { host: '127.0.0.1', port: Number(env('PORT')) },
  versionCheck: { enable: false },
  telemetry: false,
  authentication: {
    createAdminUser: false,
    initApiTokens: [
      token('admin', 'driftwatch', env('ADMIN_TOKEN'), '*', ['*']),
      token('admin', 'somebody-else', env('OTHER_ADMIN_TOKEN'), '*', ['*']),
      ...JSON.parse(env('FRONTEND_TOKENS')).map((t, i) => token('frontend', `frontend-${i}`, t.secret, t.environment, t.projects)),
    ],
  },
});
