// Uses the pages of `driftwatch report serve` in Debian's Chromium, as people do: five widths,
// light and dark, with the keyboard alone, without scripts. It starts the built program on
// journals of 30 days, of nothing, and with users who may act. `make browser` writes them and
// starts this.
//
//   DRIFTWATCH   the program
//   PAGES        directory of the journals: full, empty, acting
//   SCREENSHOTS  directory for pictures of the pages
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { join, resolve } from 'node:path';
import { createInterface } from 'node:readline';
import { after, before, describe, test } from 'node:test';
import { Chromium, accessible, desks, fits, phones, picture, readableInTheDark, resize, walk } from './chromium.mjs';

const directory = resolve(process.env.PAGES);
const program = resolve(process.env.DRIFTWATCH);
const user = { username: 'm.okafor', password: 'secret' };
const chromium = new Chromium();

// A Served is a running `driftwatch report serve`.
class Served {
  said = '';

  async start(name, ...args) {
    this.process = spawn(program, ['report', 'serve', '--listen', '127.0.0.1:0', ...args], { cwd: join(directory, name), stdio: ['ignore', 'inherit', 'pipe'] });
    this.ended = once(this.process, 'exit');
    const listening = new Promise((done, fail) => {
      createInterface({ input: this.process.stderr }).on('line', (line) => {
        this.said += line + '\n';
        const address = /^listening on (\S+)/.exec(line);
        if (address) done(address[1]);
      });
      this.ended.then(() => fail(new Error(`${name} ended: ${this.said}`)));
    });
    this.home = `http://${await listening}/`;
    return this;
  }

  // end asks it to end, and returns its exit code.
  async end() {
    this.process.kill('SIGTERM');
    return (await this.ended)[0];
  }

  open(path, options, use) { return chromium.open(this.home + path, { own: this.home, ...options }, use); }

  async api(path) {
    const answer = await fetch(`${this.home}api/v1/${path}`, { headers: { Authorization: 'Basic ' + btoa(`${user.username}:${user.password}`) } });
    assert.equal(answer.status, 200, path);
    return answer.json();
  }
}

const full = new Served(), empty = new Served(), acting = new Served();
const flagFile = join(directory, 'acting', 'flags.json');
const off = 'flags/off?source=production&key=new-backoff';
let deploys; // by the API: each with its newest report, newest first

before(async () => {
  await Promise.all([chromium.launch(), full.start('full'), empty.start('empty'), acting.start('acting', '--web.config.file', 'web.yaml', '--enable-actions')]);
  const { reports, next } = await full.api('reports?limit=1000');
  assert.equal(next, null, 'all reports on one page');
  // Reports that found no upgrade stand for their day. An id begins with the instant.
  const seen = new Set();
  deploys = reports.filter((r) => {
    const key = r.upgrade_id ?? `${r.service} ${r.now.slice(0, 10)}`;
    return !seen.has(key) && seen.add(key);
  }).sort((a, b) => (a.id < b.id ? 1 : -1));
});
after(async () => {
  await chromium.close();
  for (const served of [full, empty, acting]) served.process?.kill('SIGKILL'); // where a test above has failed
});

const newest = (verdict, service = /./) => deploys.find((d) => d.verdict === verdict && service.test(d.service));
const hostile = () => deploys.find((d) => d.service.startsWith('<script>'));

// The console names what was refused.
const refused = /^Failed to load resource: the server responded with a status of 4\d\d/;
const framed = /frame-ancestors|X-Frame-Options/;
const places = {
  history: { at: full, path: () => '' },
  'history-filtered': { at: full, path: () => '?verdict=regressed&q=2.4' },
  'history-none': { at: full, path: () => '?q=nothing+is+called+so' },
  'history-empty': { at: empty, path: () => '' },
  report: { at: full, path: () => `reports/${newest('regressed', /^[a-z]/).id}` },
  'report-hostile': { at: full, path: () => `reports/${hostile().id}` },
  flags: { at: full, path: () => 'flags' },
  'flags-empty': { at: empty, path: () => 'flags' },
  'flags-acting': { at: acting, path: () => 'flags' },
  rules: { at: full, path: () => 'rules' },
  'rules-empty': { at: empty, path: () => 'rules' },
  confirm: { at: acting, path: () => off },
  'not-found': { at: full, path: () => 'reports/1999', meant: refused },
  'bad-query': { at: full, path: () => '?servise=checkout-api', meant: refused },
};

// open opens one of the places, by a user where users are asked for.
const open = (name, options, use) => {
  const { at, path, meant } = places[name];
  return at.open(path(), { meant, ...at === acting && { httpCredentials: user }, ...options }, use);
};

for (const name of Object.keys(places)) {
  describe(name, () => {
    test('five widths, light and dark', async () => {
      for (const widths of [phones, desks]) {
        await open(name, { width: widths[1] }, async (page) => {
          for (const width of widths) {
            await resize(page, width);
            await fits(page, `${name} at ${width} px`, 5);
            if (width === widths[1]) for (const scheme of ['light', 'dark']) await picture(page, `web-${name}`, width, scheme);
          }
          await resize(page, widths[1]);
          await accessible(page, `${name} at ${widths[1]} px`);
          await readableInTheDark(page, `${name} at ${widths[1]} px`);
        });
      }
    });
    test('keyboard only', async () => {
      const variant = name.includes('-'); // of a page that is walked through at both widths
      for (const width of variant ? [1280] : [390, 1280]) await open(name, { width }, walk);
    });
    test('without scripts', async () => {
      await open(name, { width: 390, javaScriptEnabled: false }, async (page) => {
        assert.equal(await page.locator('h1').count(), 1);
        assert.equal(await page.locator('.js-only:visible').count(), 0, 'what needs scripts shows without them');
        await fits(page, name, 5);
      });
    });
  });
}

// listed are the ids of the deploys on all pages of a list, from the page that is shown.
async function listed(page) {
  const unfold = page.getByRole('link', { name: /^Show \d+ older/ });
  if (await unfold.count()) await unfold.click();
  const ids = [];
  for (;;) {
    ids.push(...await page.locator('a.go').evaluateAll((links) => links.map((a) => decodeURIComponent(a.pathname).slice('/reports/'.length))));
    const older = page.locator('a[rel=next]');
    if (!await older.count()) return ids;
    await older.click();
  }
}

// Everything here is a plain form or link: it works the same without scripts.
for (const javaScriptEnabled of [true, false]) {
  describe(javaScriptEnabled ? 'the history' : 'the history without scripts', () => {
    const history = (use) => full.open('', { javaScriptEnabled }, use);
    const expect = async (page, keep) => {
      const want = deploys.filter(keep).map((d) => d.id);
      assert.ok(want.length > 0 && want.length < deploys.length, `${want.length} of ${deploys.length} tell little`);
      assert.deepEqual(await listed(page), want);
    };
    test('lists every deploy once, page by page, and returns', async () => {
      await history(async (page) => {
        assert.ok(deploys.length > 80, `${deploys.length} deploys`);
        assert.deepEqual(await listed(page), deploys.map((d) => d.id));
        await page.getByRole('link', { name: 'Newest deploys' }).click();
        assert.equal(await page.locator('a.go').first().getAttribute('href'), `/reports/${deploys[0].id}`);
      });
    });
    test('filters by verdict, service and both', async () => {
      await history(async (page) => {
        const chips = page.getByRole('group', { name: 'Verdict' }).getByRole('link');
        for (const verdict of ['regressed', 'undecided', 'improved', 'no_meaningful_rise', 'not_enough_data', 'could_not_check']) {
          await page.goto(full.home);
          const chip = page.locator(`[role=group][aria-label=Verdict] a[href*="verdict=${verdict}"]`);
          const n = deploys.filter((d) => d.verdict === verdict).length;
          assert.match((await chip.textContent()).trim(), new RegExp(`\\b${n}$`), `${verdict} counts`);
          await chip.click();
          await expect(page, (d) => d.verdict === verdict);
        }
        await page.goto(full.home);
        assert.equal(await chips.count(), 6);
        await page.getByLabel('Service', { exact: true }).selectOption('payments-gw');
        await page.getByRole('button', { name: 'Show' }).click();
        await expect(page, (d) => d.service === 'payments-gw');
        await page.locator('[role=group][aria-label=Verdict] a[href*="verdict=no_meaningful_rise"]').click();
        await expect(page, (d) => d.service === 'payments-gw' && d.verdict === 'no_meaningful_rise');
        await page.getByLabel('Service', { exact: true }).selectOption(hostile().service);
        await page.getByRole('button', { name: 'Show' }).click();
        await page.getByRole('link', { name: 'Clear the filter' }).click(); // it has no such verdict
        assert.equal(await page.locator('a.go').count(), 40);
        await page.getByLabel('Service', { exact: true }).selectOption(hostile().service);
        await page.getByRole('button', { name: 'Show' }).click();
        await expect(page, (d) => d.service === hostile().service);
      });
    });
    test('searches versions and endpoints, and says the days', async () => {
      const whole = await Promise.all(deploys.map((d) => full.api(`reports/${encodeURIComponent(d.id)}`)));
      const holds = (text) => (d) => {
        const r = whole[deploys.indexOf(d)];
        return [r.deploy?.from, r.deploy?.to, ...r.comparisons.map((c) => c.endpoint)].some((s) => s?.toLowerCase().includes(text));
      };
      await history(async (page) => {
        for (const text of ['2.47.0', 'payments/authorize', '<script>alert(2)']) {
          await page.getByLabel('Version or endpoint').fill(text.toUpperCase());
          await page.keyboard.press('Enter');
          await page.waitForURL((u) => u.searchParams.get('q') === text.toUpperCase());
          await expect(page, holds(text));
        }
        await page.goto(full.home);
        const [day, until] = [deploys[60], deploys[30]].map((d) => `${d.id.slice(0, 4)}-${d.id.slice(4, 6)}-${d.id.slice(6, 8)}`);
        await page.getByLabel('From', { exact: true }).fill(day);
        await page.getByLabel('to', { exact: true }).fill(until);
        await page.getByRole('button', { name: 'Show' }).click();
        await expect(page, (d) => d.id.slice(0, 8) >= day.replaceAll('-', '') && d.id.slice(0, 8) <= until.replaceAll('-', ''));
      });
    });
    test('takes what people say', async () => {
      const bad = (await full.api('reports?limit=1000&verdict=regressed')).reports.find((r) => r.said === null && r.upgrade_id && /^[a-z]/.test(r.service));
      const comment = `a cold cache, ${javaScriptEnabled ? 'with' : 'without'} scripts\n<b>&amp;`;
      await full.open(`reports/${bad.id}`, { javaScriptEnabled }, async (page) => {
        await page.getByLabel('Why, or a comment').fill(comment);
        await page.getByRole('button', { name: 'False alarm' }).click();
        await page.waitForURL(/#said$/);
        const said = page.locator('#said');
        assert.match(await said.textContent(), /false alarm, anonymous on loopback/);
        assert.ok((await said.textContent()).includes(comment));
        assert.match(await page.locator('main').textContent(), /Marked as a false alarm by anonymous on loopback/);
        await page.goto(`${full.home}?q=${bad.id}`);
        const line = page.locator('tr', { has: page.locator(`a[href="/reports/${bad.id}"]`) });
        assert.ok((await line.textContent()).includes(comment));
        assert.match(await line.textContent(), /false alarm, anonymous on loopback/);
      });
      assert.equal((await full.api('reports?limit=1000')).reports.find((r) => r.id === bad.id).said, 'false_alarm');
      // The list asks about every alarm that nobody has judged.
      await history(async (page) => {
        const row = page.locator('tr', { has: page.getByRole('button', { name: 'Real' }) }).first();
        const id = (await row.locator('a.go').getAttribute('href')).slice('/reports/'.length);
        await row.getByRole('button', { name: 'Real' }).click();
        await page.waitForURL(`${full.home}reports/${id}#said`);
        assert.equal((await full.api('reports?limit=1000')).reports.find((r) => r.id === decodeURIComponent(id)).said, 'real');
      });
    });
  });
}

// A report that is watched is read anew every minute, but not from under somebody's hands.
test('a report that is not over reloads, and loses no words', async () => {
  await full.open(`reports/${newest('undecided').id}`, { timezoneId: 'UTC' }, async (page) => { // in a window of its own: its clock stays ours
    await page.clock.install();
    await page.reload();
    const comment = page.getByLabel('Why, or a comment');
    await comment.fill('half a sen');
    await page.clock.runFor('03:00');
    assert.equal(await comment.inputValue(), 'half a sen');
    await comment.fill('');
    const again = page.waitForEvent('load');
    await page.clock.runFor('01:00');
    await again;
  });
});

describe('names from the data', () => {
  test('are text wherever they stand', async () => {
    const { service, id } = hostile();
    for (const path of ['', `?service=${encodeURIComponent(service)}`, `reports/${id}`, 'flags', `?q=${encodeURIComponent('<script>alert(2)')}`]) {
      await full.open(path, {}, async (page) => { // a dialog would fail it
        assert.equal(await page.locator('script').evaluateAll((all) => all.filter((s) => s.text.startsWith('alert')).length), 0, path);
        assert.ok(/alert\([12]\)/.test(await page.locator('body').innerText()), `${path} shows it`);
      });
    }
  });
});

describe('acting', () => {
  const flag = () => readFileSync(flagFile, 'utf8');
  const as = (path, use, more) => acting.open(path, { httpCredentials: user, javaScriptEnabled: false, ...more }, use);
  test('nobody comes in without a name', async () => {
    for (const httpCredentials of [undefined, { username: 'm.okafor', password: 'guess' }]) {
      await assert.rejects(acting.open('flags', { httpCredentials }, () => {}), /ERR_INVALID_AUTH_CREDENTIALS|401 \(Unauthorized\)/);
    }
  });
  test('turns a flag off behind a page that shows the difference, and restores it', async () => {
    const before = flag();
    await as('flags', async (page) => {
      await page.getByRole('link', { name: 'Turn off…' }).click();
      assert.match(await page.locator('h1').innerText(), /Turn off new-backoff\?/);
      const diff = await page.locator('pre').innerText();
      assert.match(diff, /^-\s+"defaultVariant": "on"$/m);
      assert.match(diff, /^\+\s+"defaultVariant": "off"$/m);
      await page.getByRole('link', { name: 'Leave it as it is' }).click();
      await page.waitForURL(acting.home + 'flags');
      assert.equal(flag(), before, 'looking changes nothing');
      await page.goto(acting.home + off);
      await page.getByLabel('Why, for the journal').fill('too many retries');
      await page.getByRole('button', { name: 'Turn off' }).click();
      await page.waitForURL(acting.home + 'flags');
      assert.equal(flag(), before.replace('"defaultVariant": "on"', '"defaultVariant": "off"'));
      assert.match(await page.locator('main').innerText(), /m\.okafor: too many retries[^]*verified/);
      let [now] = (await acting.api('flags')).flags;
      assert.deepEqual([now.off, now.off_by], [true, 'm.okafor: too many retries']);

      await page.getByRole('link', { name: 'Restore…' }).first().click(); // that of the flag; its change has one, too
      assert.match(await page.locator('pre').innerText(), /defaultVariant/);
      await page.getByRole('button', { name: 'Restore' }).click();
      await page.waitForURL(acting.home + 'flags');
      assert.equal(flag(), before, 'restored to the byte');
      [now] = (await acting.api('flags')).flags;
      assert.deepEqual([now.off, now.off_by], [false, null]);
      assert.match(await page.getByRole('table', { name: 'Changes by driftwatch' }).innerText(), /restored[^]*m\.okafor/);
    });
  });
  test('refuses a forged form', async () => {
    const before = flag();
    for (const [field, value] of [['token', 'AAAA'], ['revision', 'another'], ['key', 'other']]) {
      await as(off, async (page) => {
        await page.locator(`input[name=${field}]`).evaluate((input, value) => { input.value = value; }, value);
        await page.getByRole('button', { name: 'Turn off' }).click();
        await page.getByText('the form is not of this server').waitFor();
      }, { meant: refused });
    }
    assert.equal(flag(), before);
  });
  test('refuses what another site sends, and its frames', async () => {
    const before = flag();
    let fields; // with a good token
    await as(off, async (page) => { fields = await page.locator('form input').evaluateAll((all) => all.map((i) => i.outerHTML).join('')); });
    // This machine by another name is another site.
    const other = createServer((q, r) => {
      r.setHeader('Content-Type', 'text/html');
      r.end(q.url === '/frame' ? `<!doctype html><title>frame</title><iframe src="${full.home}flags"></iframe>`
        : `<!doctype html><title>form</title><form method="post" action="${acting.home}flags/off">${fields}<button>Win a prize</button></form>`);
    }).listen(0, '127.0.0.1');
    try {
      await once(other, 'listening');
      const evil = `http://localhost:${other.address().port}/`;
      await chromium.open(evil, { own: 'http://', httpCredentials: user, meant: refused }, async (page) => {
        await page.getByRole('button').click();
        await page.getByText('the request comes from a page of another site').waitFor();
      });
      await chromium.open(evil + 'frame', { own: 'http://', meant: framed }, async (page) => {
        // Only the page of the error tells that the frame was refused, and it comes after the load.
        for (let i = 0; i < 600 && page.frames()[1]?.url() === ''; i++) await page.waitForTimeout(100);
        assert.match(page.frames()[1].url(), /^chrome-error:/);
      });
    } finally {
      other.close();
      other.closeAllConnections();
    }
    assert.equal(flag(), before);
  });
});

// The browser still holds its connections.
test('every server ends at SIGTERM with exit code 0, and nothing in its log', async () => {
  for (const served of [full, empty, acting]) {
    assert.equal(await served.end(), 0, served.said);
    assert.doesNotMatch(served.said, /level=(ERROR|WARN)(?! msg="a flag was not changed as asked")/);
  }
});
