// Opens HTML reports in Debian's Chromium, as people do: five widths, light and dark, with the
// keyboard alone, without scripts, on paper. `make browser` writes the pages and starts this.
//
//   PAGES        directory of the pages
//   SCREENSHOTS  directory for pictures of them
import assert from 'node:assert/strict';
import { readdirSync, statSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { pathToFileURL } from 'node:url';
import { Chromium, accessible, desks, fits, phones, picture, readableInTheDark, resize, walk } from './chromium.mjs';
import { measure } from './measure.mjs';

const directory = resolve(process.env.PAGES);
const pages = readdirSync(directory).filter((f) => f.endsWith('.html')).map((f) => f.slice(0, -5)).sort();
const large = 'comparisons-10000';
const pictured = ['verified', 'dry-run', 'could-not-check', 'not-enough-data', 'hostile-names', 'endpoints-200', large];

const chromium = new Chromium();
before(() => chromium.launch());
after(() => chromium.close());

// load opens a page of the directory.
const load = (name, options, use) => chromium.open(pathToFileURL(join(directory, name + '.html')).href, options, use);

// unfold opens what is folded, one page of rows per fold at most.
const unfold = (page) => page.evaluate(() => {
  for (const f of document.querySelectorAll('details')) f.open = !f.parentElement.closest('details') || f.matches(':first-of-type');
});

describe('the watching', () => {
  const of = async (html, paper) => {
    let found;
    await chromium.open('about:blank', { width: 400 }, async (page) => {
      await page.setContent(html);
      found = await page.evaluate(measure, paper);
    });
    return found;
  };
  test('sees what is wrong with boxes', async () => {
    assert.ok((await of('<div style="width:500px">wide</div>')).document > 0);
    assert.equal((await of('<div style="width:40px;overflow:hidden;white-space:nowrap">much more text than fits</div>')).cut.length, 1);
    assert.equal((await of('<div style="height:20px;overflow:hidden">a<br>b<br>c</div>')).cut.length, 2);
    assert.equal((await of('<svg width="50" height="20"><text x="10" y="15">beyond the picture</text></svg>')).cut.length, 1);
    assert.equal((await of('<p>one text</p><p style="position:relative;top:-34px">another text</p>')).overlaps.length, 1);
    assert.equal((await of('<svg width="200" height="30"><text x="10" y="15">one text</text><text x="20" y="15">another</text></svg>')).overlaps.length, 1);
    assert.equal((await of('<div style="width:99px;overflow:auto"><div style="width:300px">may be scrolled, but not where it is on paper</div></div>', true)).cut.length, 1);
  });
  test('sees nothing where nothing is', async () => {
    const found = await of('<p>one text</p><p>another <b>text</b> beside it</p><div style="width:99px;overflow:auto"><div style="width:300px">may be scrolled</div></div>');
    assert.deepEqual(found, { document: 0, cut: [], overlaps: [], texts: 5 });
  });
  const wrong = (html, use, message) => {
    const path = join(resolve(process.env.SCREENSHOTS), 'wrong.html');
    writeFileSync(path, `<!doctype html><html lang="en"><title>wrong</title>${html}`);
    return assert.rejects(chromium.open(pathToFileURL(path).href, { width: 400 }, use), message);
  };
  const nothing = async () => {};
  test('sees what the console shows, what is asked for, what the policy forbids', async () => {
    await wrong('<script>console.error("broken")</script>', nothing, /broken/);
    await wrong('<script>nowhere()</script>', nothing, /nowhere is not defined/);
    await wrong('<script>alert(1)</script>', nothing, /a dialog: 1/);
    await wrong('<img alt="" src="nothing.png">', nothing, /asks for .*nothing\.png/);
    await wrong('<meta http-equiv="Content-Security-Policy" content="script-src \'none\'"><script>1</script>', nothing, /Content Security Policy/);
  });
  test('sees what the keyboard does not reach and who cannot read', async () => {
    await wrong('<button style="outline:none">a</button>', walk, /the focus cannot be seen/);
    await wrong('<button>a</button><a href="#" tabindex="-1">b</a>', walk, /the focus cannot be seen|stops that Tab reaches/);
    await wrong('<style>:focus-visible { outline: 2px solid red }</style><button>a</button><a href="#" tabindex="-1">b</a>', walk, /stops that Tab reaches/);
    await wrong('<body style="background:#fff"><p style="color:#ddd">pale words</p>', (page) => accessible(page, 'pale'), /color-contrast/);
    await wrong('<style>@media (prefers-color-scheme: dark) { p { color: #ddd } }</style><body style="background:#fff"><p>pale in the dark</p>', (page) => readableInTheDark(page, 'pale'), /dark: violations[^]*color-contrast/);
  });
});

for (const name of pages) {
  describe(name, () => {
    test('five widths, light and dark', async () => {
      for (const widths of [phones, desks]) {
        await load(name, { width: widths[1] }, async (page) => {
          for (const width of widths) {
            await resize(page, width);
            await fits(page, `${name} at ${width} px`);
            if (!pictured.includes(name) || width !== widths[1]) continue;
            await picture(page, name, width, 'light');
            await picture(page, name, width, 'dark');
          }
          await unfold(page);
          for (const width of widths) {
            await resize(page, width);
            await fits(page, `${name} at ${width} px, unfolded`);
          }
        });
      }
    });

    test('accessible', async () => {
      for (const width of name === 'verified' || name === 'endpoints-200' ? [1280, 390] : [1280]) {
        await load(name, { width }, async (page) => {
          // axe-core takes a minute for 10,000 rows. What is beyond 200 has the same markup.
          await page.evaluate(() => { for (const row of [...document.querySelectorAll('tbody tr')].slice(200)) row.remove(); });
          await accessible(page, `${name} at ${width} px`);
          if (width === 1280 && pictured.includes(name)) await readableInTheDark(page, name);
        });
      }
    });

    test('without scripts', async () => {
      for (const width of [390, 1280]) {
        await load(name, { width, javaScriptEnabled: false }, async (page) => {
          assert.equal(await page.locator('h1').count(), 1);
          assert.equal(await page.locator('.js-only:visible').count(), 0, 'what needs scripts shows without them');
          assert.equal(await page.locator('tr[hidden], tbody[hidden], details[hidden]').count(), 0);
          await fits(page, `${name} at ${width} px`);
          // Each page of 500 rows takes seconds to lay out; they are folds like the others.
          const folds = await page.locator('details:visible').all();
          for (const fold of name === large ? folds.slice(0, 3) : folds) {
            if (await fold.getAttribute('open') !== null) continue;
            await fold.locator('> summary').click();
            assert.notEqual(await fold.getAttribute('open'), null, 'a fold that does not open');
            await fold.locator('> summary').click();
          }
        });
      }
    });

    test('keyboard only', async () => {
      await load(name, {}, async (page) => {
        await walk(page);
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

    // A4 is 703 px wide between the margins of 12 mm. Who prints at night has a dark page.
    test('on paper', async () => {
      await load(name, { width: 703, scheme: 'dark', media: 'print' }, async (page) => {
        const seen = await page.evaluate(() => {
          const channels = (colour) => colour.match(/[\d.]+/g).slice(0, 3).map(Number);
          const text = document.querySelector('h1'), ground = document.querySelector('.verdict');
          return {
            text: channels(getComputedStyle(text).color), ground: channels(getComputedStyle(ground).backgroundColor), body: channels(getComputedStyle(document.body).backgroundColor),
            controls: [...document.querySelectorAll('button, input, select, textarea, nav a, .skip')].filter((e) => e.checkVisibility()).map((e) => e.outerHTML.slice(0, 120)),
          };
        });
        assert.ok(Math.max(...seen.text) < 100 && Math.min(...seen.ground, ...seen.body) > 220, `dark on light is for paper: ${JSON.stringify(seen)}`);
        assert.deepEqual(seen.controls, [], 'nobody presses them on paper');
        await fits(page, `${name} on paper`, 20, true);
        if (name === large) return; // ten seconds for what endpoints-200 shows, too
        const pdf = await page.pdf({ preferCSSPageSize: true, format: 'A4' });
        assert.equal(pdf.subarray(0, 5).toString(), '%PDF-');
        assert.ok(pdf.length > 10_000, `${pdf.length} bytes`);
        if (pictured.includes(name)) writeFileSync(join(resolve(process.env.SCREENSHOTS), `${name}.pdf`), pdf);
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
  const said = (page, want) => page.waitForFunction((w) => document.querySelector('[data-filter] [aria-live]').textContent.replace(/(?<=\d)\s(?=\d)/g, '') === w, want);
  for (const name of ['verified', 'endpoints-200', large]) {
    test(name, async () => {
      await load(name, {}, async (page) => {
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
  const url = pathToFileURL(join(directory, large + '.html')).href;
  for (const width of [1280, 390]) {
    await chromium.open(url, { width }, async (page) => {
      const session = await page.context().newCDPSession(page);
      await session.send('Performance.enable', { timeDomain: 'threadTicks' });
      const busy = async () => (await session.send('Performance.getMetrics')).metrics.find((m) => m.name === 'TaskDuration').value;
      const before = await busy();
      await page.reload();
      const [times, elements] = await page.evaluate(() => new Promise((done) => {
        requestAnimationFrame(() => setTimeout(() => {
          const n = performance.getEntriesByType('navigation')[0], paint = performance.getEntriesByName('first-contentful-paint')[0];
          done([{ loaded: n.loadEventEnd, painted: paint?.startTime }, document.getElementsByTagName('*').length]);
        }));
      }));
      t.diagnostic(`${bytes} bytes, ${elements} elements; at ${width} px painted after ${Math.round(times.painted)} ms, loaded after ${Math.round(times.loaded)} ms (bar: 2000 ms), of which ${Math.round((await busy() - before) * 1000)} ms of one processor`);
    });
  }
});
