// Opens HTML reports in Debian's Chromium, as people do: five widths, light and dark, with the
// keyboard alone, without scripts. `make browser` writes the pages and starts this.
//
//   PAGES        directory of the pages
//   SCREENSHOTS  directory for pictures of them
import assert from 'node:assert/strict';
import { readFileSync, readdirSync, statSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join, resolve } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { pathToFileURL } from 'node:url';
import { chromium } from 'playwright-core';
import { measure } from './measure.mjs';

const axe = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');
const directory = resolve(process.env.PAGES);
const screenshots = resolve(process.env.SCREENSHOTS);
const pages = readdirSync(directory).filter((f) => f.endsWith('.html')).map((f) => f.slice(0, -5)).sort();
const widths = [320, 390, 768, 1280, 1920];
const large = 'comparisons-10000';
const pictured = ['verified', 'dry-run', 'could-not-check', 'not-enough-data', 'hostile-names', 'endpoints-200', large];

let browser;
before(async () => {
  browser = await chromium.launch({
    executablePath: '/usr/bin/chromium',
    args: ['--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking', '--disable-component-update', '--disable-sync'],
  });
});
after(async () => { await browser?.close(); });

// open opens a page, calls use, and fails on every error that the console shows and every
// request that is not for the page itself. use also gets how many seconds of a processor the
// page has taken.
async function open(name, options, use) {
  const context = await browser.newContext(options);
  try {
    context.setDefaultTimeout(300_000); // only what hangs; a busy machine is slow
    const page = await context.newPage();
    const url = pathToFileURL(join(directory, name + '.html')).href;
    const wrong = [];
    page.on('console', (m) => { if (['error', 'warning'].includes(m.type())) wrong.push(m.text()); });
    page.on('pageerror', (e) => wrong.push(String(e)));
    page.on('request', (r) => { if (r.url() !== url) wrong.push(`asks for ${r.url()}`); });
    page.on('dialog', (d) => { wrong.push(`a dialog: ${d.message()}`); d.dismiss(); });
    const session = await context.newCDPSession(page);
    await session.send('Performance.enable', { timeDomain: 'threadTicks' });
    await page.goto(url);
    await use(page, async () => (await session.send('Performance.getMetrics')).metrics.find((m) => m.name === 'TaskDuration').value);
    assert.deepEqual(wrong, [], `${name} in the console`);
  } finally {
    await context.close();
  }
}

const at = (width, more) => ({ viewport: { width, height: 900 }, colorScheme: 'light', reducedMotion: 'reduce', ...more });

// unfold opens what is folded, one page of rows per fold at most.
const unfold = (page) => page.evaluate(() => {
  for (const f of document.querySelectorAll('details')) f.open = !f.parentElement.closest('details') || f.matches(':first-of-type');
});

async function fits(page, name, width) {
  const found = await page.evaluate(measure);
  assert.ok(found.texts > 20, `${name} at ${width} px: only ${found.texts} texts were measured`);
  assert.equal(found.document, 0, `${name} at ${width} px: the document is wider than the window by`);
  assert.deepEqual(found.cut, [], `${name} at ${width} px: cut texts`);
  assert.deepEqual(found.overlaps, [], `${name} at ${width} px: texts over each other`);
}

async function accessible(page, name, what) {
  await page.evaluate(axe);
  const found = await page.evaluate(async () => {
    const result = await window.axe.run(document, { resultTypes: ['violations'] });
    return result.violations.filter((v) => ['serious', 'critical'].includes(v.impact))
      .map((v) => `${v.id}: ${v.help}: ${v.nodes.slice(0, 3).map((n) => n.html.slice(0, 200)).join(' | ')} (${v.nodes.length})`);
  });
  assert.deepEqual(found, [], `${name}, ${what}: violations`);
}

describe('the measuring', () => {
  const of = async (html) => {
    const page = await browser.newPage({ viewport: { width: 400, height: 300 } });
    try {
      await page.setContent(html);
      return await page.evaluate(measure);
    } finally {
      await page.close();
    }
  };
  test('sees what is wrong', async () => {
    assert.ok((await of('<div style="width:500px">wide</div>')).document > 0);
    assert.equal((await of('<div style="width:40px;overflow:hidden;white-space:nowrap">much more text than fits</div>')).cut.length, 1);
    assert.equal((await of('<div style="height:20px;overflow:hidden">a<br>b<br>c</div>')).cut.length, 2);
    assert.equal((await of('<svg width="50" height="20"><text x="10" y="15">beyond the picture</text></svg>')).cut.length, 1);
    assert.equal((await of('<p>one text</p><p style="position:relative;top:-34px">another text</p>')).overlaps.length, 1);
    assert.equal((await of('<svg width="200" height="30"><text x="10" y="15">one text</text><text x="20" y="15">another</text></svg>')).overlaps.length, 1);
  });
  test('sees nothing where nothing is', async () => {
    const found = await of('<p>one text</p><p>another <b>text</b> beside it</p><div style="width:99px;overflow:auto"><div style="width:300px">may be scrolled</div></div>');
    assert.deepEqual(found, { document: 0, cut: [], overlaps: [], texts: 5 });
  });
});

for (const name of pages) {
  describe(name, () => {
    for (const width of widths) {
      test(`${width} px, light and dark`, async () => {
        await open(name, at(width), async (page) => {
          await fits(page, name, width);
          for (const scheme of ['light', 'dark']) {
            await page.emulateMedia({ colorScheme: scheme });
            if (pictured.includes(name)) await page.screenshot({ path: join(screenshots, `${name}-${width}-${scheme}.png`), fullPage: name !== large });
            if (width === 1280 && scheme === 'light' || name !== large && pictured.includes(name) && (width === 1280 || width === 390 && scheme === 'light')) await accessible(page, name, `${width} px, ${scheme}`);
          }
          await unfold(page);
          await fits(page, name, width);
        });
      });
    }

    test('without scripts', async () => {
      for (const width of [390, 1280]) {
        await open(name, at(width, { javaScriptEnabled: false }), async (page) => {
          assert.equal(await page.locator('h1').count(), 1);
          assert.equal(await page.locator('.js-only:visible').count(), 0, 'what needs scripts shows without them');
          assert.equal(await page.locator('tr[hidden], tbody[hidden], details[hidden]').count(), 0);
          await fits(page, name, width);
          for (const fold of await page.locator('details:visible').all()) {
            if (await fold.getAttribute('open') !== null) continue;
            await fold.locator('> summary').click();
            assert.notEqual(await fold.getAttribute('open'), null, 'a fold that does not open');
            await fold.locator('> summary').click();
          }
        });
      }
    });

    test('keyboard only', async () => {
      await open(name, at(1280), async (page) => {
        const stops = await page.evaluate(() => {
          let n = 0;
          for (const e of document.querySelectorAll('a[href], button, select, input, summary, [tabindex="0"]')) if (e.checkVisibility()) e.dataset.stop = n++;
          return n;
        });
        const reached = new Set();
        for (let i = 0; i < 2 * stops + 10 && reached.size < stops; i++) {
          await page.keyboard.press('Tab');
          const stop = await page.evaluate(() => {
            const e = document.activeElement;
            const s = getComputedStyle(e), box = e.getBoundingClientRect();
            return { n: e.dataset.stop, name: e.outerHTML.slice(0, 120), shown: s.outlineStyle !== 'none' && parseFloat(s.outlineWidth) >= 2, in: box.bottom > 0 && box.top < innerHeight && box.right > 0 && box.left < innerWidth };
          });
          if (stop.n === undefined) continue;
          reached.add(stop.n);
          assert.ok(stop.shown && stop.in, `the focus cannot be seen: ${stop.name}`);
        }
        assert.equal(reached.size, stops, 'stops that Tab reaches');
        const chip = page.locator('.chip').first();
        if (await chip.count()) {
          await chip.focus();
          for (const [key, want] of [['Enter', 'true'], ['Space', 'false'], ['Space', 'true'], ['Enter', 'false']]) {
            await page.keyboard.press(key);
            assert.equal(await chip.getAttribute('aria-pressed'), want, key);
          }
        }
        const fold = page.locator('details:visible').first();
        if (await fold.count()) {
          await fold.locator('> summary').focus();
          for (const [key, want] of [['Enter', true], ['Space', false]]) {
            await page.keyboard.press(key);
            assert.equal(await fold.getAttribute('open') !== null, want, key);
          }
        }
        const series = page.locator('[data-series]').first();
        if (await series.count()) {
          const read = series.locator('.read'), idle = await read.textContent();
          await series.focus();
          await page.keyboard.press('ArrowRight');
          assert.match(await read.textContent(), /^until \d\d:\d\d/);
          await page.keyboard.press('Escape');
          assert.equal(await read.textContent(), idle);
        }
      });
    });
  });
}

describe('filters', () => {
  const shown = (page) => page.evaluate(() => Array.from(document.querySelectorAll('#ft tbody[data-v] tr:not(.grp)'))
    .filter((tr) => !tr.closest('[hidden]')).map((tr) => {
      const name = tr.querySelector('th');
      return { verdict: tr.parentElement.dataset.v, name: name.textContent, signal: name.nextElementSibling.textContent };
    }));
  const said = (page, want) => page.waitForFunction((w) => document.querySelector('[data-filter] [aria-live]').textContent === w, want);
  for (const name of ['verified', 'endpoints-200', large]) {
    test(name, async () => {
      await open(name, at(1280), async (page) => {
        const all = await shown(page);
        const expect = async (keep) => {
          const want = all.filter(keep);
          await said(page, want.length === all.length ? `${all.length} comparisons` : `${want.length} of ${all.length} shown`);
          assert.deepEqual(await shown(page), want);
        };
        await page.locator('.chip[value=reg]').click();
        await expect((r) => r.verdict === 'reg');
        await page.locator('#fs').selectOption('retries');
        await expect((r) => r.verdict === 'reg' && r.signal === 'retries');
        await page.locator('.chip[value=reg]').click();
        await page.locator('#fs').selectOption('');
        const part = all[0].name.slice(-12).toUpperCase();
        await page.locator('#fq').fill(part);
        await expect((r) => r.name.toUpperCase().includes(part));
        await page.locator('#fq').fill('there is no such endpoint');
        await expect(() => false);
        assert.ok(await page.getByText('No comparison is like that.').isVisible());
        await page.locator('#fq').fill('');
        await expect(() => true);
        const sort = page.locator('#ft th[data-sort=n] .sort').first();
        await sort.click();
        assert.equal(await page.locator('#ft th[data-sort=n]').first().getAttribute('aria-sort'), 'descending');
        await sort.click();
        await sort.click();
        assert.deepEqual(await shown(page), all, 'the third click brings the order of the page back');
      });
    });
  }
});

// The clock is for a person to read: the bar is 2 s on a machine that does nothing else.
test('a report of 10,000 comparisons', async (t) => {
  const bytes = statSync(join(directory, large + '.html')).size;
  assert.ok(bytes < 5_000_000, `${bytes} bytes`);
  for (const width of [1280, 390]) {
    await open(large, at(width), async (page, busy) => {
      const [times, elements] = await page.evaluate(() => new Promise((done) => {
        requestAnimationFrame(() => setTimeout(() => {
          const n = performance.getEntriesByType('navigation')[0], paint = performance.getEntriesByName('first-contentful-paint')[0];
          done([{ loaded: n.loadEventEnd, painted: paint?.startTime }, document.getElementsByTagName('*').length]);
        }));
      }));
      t.diagnostic(`${bytes} bytes, ${elements} elements; at ${width} px painted after ${Math.round(times.painted)} ms, loaded after ${Math.round(times.loaded)} ms (bar: 2000 ms), of which ${Math.round(await busy() * 1000)} ms of one processor`);
    });
  }
});
