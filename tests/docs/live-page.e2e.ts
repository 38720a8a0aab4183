import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { unzipSync } from 'fflate';
import type { Browser, BrowserContext, Page } from 'playwright-core';
import type { PreviewServer } from 'vite';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { isolation } from '../../docs/.vitepress/isolation.js';
import { classify } from '../../examples/load-adapter.js';
import { temporaryFolder } from '../../tools/vitest/temporary-folder.js';
import { builtSite } from './built-site.js';
import { inChromium, openBrowser, softwareGpu, visit, withoutChromium, type Visited } from './browser.js';
import { processorTime } from './main-thread.js';
import { originOf, serve } from './serve.js';

/** Whether the adapter's held-out accuracy exceeds the frozen encoder's. */
const BEATS_FROZEN = `
  Number(document.querySelector('[data-test=accuracy]').dataset.value) >
  Number(document.querySelector('[data-test=frozen]').dataset.value)
`;

const FEW = `label\ttext\n${Array.from({ length: 16 }, (_, row) => [
  `好\t第${row}碗汤很好喝 😀`,
  `坏\t<img src=x onerror="window.harmed=true">الحساء بارد ${row}`,
])
  .flat()
  .join('\n')}`;

const at = (page: Page, name: string) => page.locator(`[data-test=${name}]`);
const valueOf = async (page: Page, name: string) => Number(await at(page, name).getAttribute('data-value'));
const phase = (page: Page, ...names: string[]) =>
  page.waitForSelector(names.map((name) => `[data-test=status][data-phase=${name}]`).join(','), { timeout: 900_000 });

/** The type of the focused control and the style of its outline. */
const focused = '[document.activeElement.type, getComputedStyle(document.activeElement).outlineStyle]';

/** Replaces the sentences of the page. */
async function replaceSentences(page: Page, train: string, heldOut = train): Promise<void> {
  await page.locator('summary', { hasText: 'Sentences:' }).click();
  await at(page, 'train').fill(train);
  await at(page, 'heldOut').fill(heldOut);
  await at(page, 'heldOut').blur();
}

/** The address of the live page on a server. */
const addressIn = (server: PreviewServer): string => `${originOf(server)}live.html`;

/** Makes memory allocation fail, as in a browser without enough memory; runs before the worker's own program. */
const NO_MEMORY = `
  WebAssembly.Memory = function () {
    throw new RangeError('WebAssembly.Memory(): could not allocate memory');
  };
`;

/**
 * Makes the page compute with one thread, as on a machine with one core. Two threads would spin while they wait for each
 * other, and take twice the time of a processor that other tests use as well.
 */
const ONE_CORE = "Object.defineProperty(navigator, 'hardwareConcurrency', { value: 1 });";

/** Makes the page's worker run `code` before its own program. */
function workerBegins(code: string): (context: BrowserContext) => Promise<unknown> {
  return (context) =>
    context.route('**/assets/worker-*.js', async (route) => {
      const response = await route.fetch();
      await route.fulfill({ response, body: `${code}\n${await response.text()}` });
    });
}

describe.skipIf(withoutChromium)(`the live page, ${inChromium}`, { timeout: 1_200_000 }, () => {
  const folder = temporaryFolder();
  let site: string;
  let browser: Browser;
  let server: PreviewServer;

  beforeAll(async () => {
    site = await builtSite(join(folder, 'site'));
    server = await serve(site, isolation);
    browser = await openBrowser();
  }, 400_000);

  afterAll(async () => {
    await browser.close();
    await server.close();
  });

  it('trains until it beats the frozen encoder and corrects its answer; the page stays responsive; the download predicts the same in Node', async () => {
    const { page, complaints, foreign } = await visit(browser, addressIn(server), workerBegins(ONE_CORE));
    await browser.startTracing(page, { categories: ['toplevel'] });
    const started = performance.now();
    await page.locator('input[type=number]').first().fill('1'); // epochs
    await at(page, 'start').click();
    await page.waitForFunction(BEATS_FROZEN, undefined, { timeout: 900_000 });
    await phase(page, 'finished');
    const seconds = (performance.now() - started) / 1000;
    const [accuracy, frozen] = [await valueOf(page, 'accuracy'), await valueOf(page, 'frozen')];
    const spent = processorTime(await browser.stopTracing());
    process.stderr.write(
      `live page: held-out accuracy ${accuracy.toFixed(3)}, frozen encoder ${frozen.toFixed(3)}, ` +
        `after ${seconds.toFixed(0)} s; the main thread computed ${spent.main.toFixed(0)} ms, the worker ${spent.workers.toFixed(0)} ms\n`,
    );
    expect(accuracy).toBeGreaterThan(frozen);
    expect(spent.main).toBeGreaterThan(0);
    expect(spent.main).toBeLessThan(spent.workers / 4); // training does not run on the page's thread

    const sample = await at(page, 'question').inputValue();
    await page.waitForSelector(`[data-test=answers][data-text="${sample}"] [data-test=after]:has-text("positive")`);
    expect(await at(page, 'before').innerText()).toContain('negative');

    const text = 'The soup was cold, and the waiter rude.';
    await at(page, 'question').fill(text);
    await page.waitForSelector(`[data-test=answers][data-text="${text}"]`);
    const answer = at(page, 'after');
    const [download] = await Promise.all([page.waitForEvent('download'), at(page, 'download').click()]);
    const adapter = join(folder, 'adapter');
    for (const [name, bytes] of Object.entries(unzipSync(await readFile(await download.path())))) {
      await mkdir(dirname(join(adapter, name)), { recursive: true });
      await writeFile(join(adapter, name), bytes);
    }
    expect(download.suggestedFilename()).toBe('sora-adapter.zip');
    const [best] = await classify(text, adapter);
    expect(Math.abs((best?.score ?? NaN) - Number(await answer.getAttribute('data-share')))).toBeLessThan(1e-4);
    expect(await answer.innerText()).toContain(best?.label);
    expect({ complaints, foreign }).toEqual({ complaints: [], foreign: [] });
    await page.context().close();
  });

  it('starts and stops from the keyboard, which keeps its focus and shows it', async () => {
    const { page } = await visit(browser, addressIn(server));
    await replaceSentences(page, FEW);
    await page.locator('input[type=number]').first().focus();
    for (const expected of ['number', 'range', 'submit']) {
      await page.keyboard.press('Tab');
      expect(await page.evaluate(focused)).toEqual([expected, 'solid']);
    }
    await page.keyboard.press('Enter');
    await phase(page, 'preparing', 'training');
    expect(await page.evaluate(focused)).toEqual(['button', 'solid']);
    await page.keyboard.press('Enter');
    await phase(page, 'stopped');
    await page.context().close();
  });

  it("prunes ranks by the slider, stops and starts again, on the reader's sentences", async () => {
    const { page, complaints } = await visit(browser, addressIn(server));
    await replaceSentences(page, FEW);
    await page.locator('input[type=number]').first().fill('20');
    await at(page, 'threshold').fill('0');
    await at(page, 'start').click();
    await page.waitForSelector('[data-test=ranks][data-value="64"]', { timeout: 300_000 });
    await at(page, 'threshold').fill('0.03');
    await page.waitForFunction('document.querySelector("[data-test=ranks]").dataset.value < 64', undefined, {
      timeout: 300_000,
    });
    await at(page, 'stop').click();
    await phase(page, 'stopped');
    await at(page, 'start').click();
    await phase(page, 'training');
    await at(page, 'stop').click();
    await phase(page, 'stopped');
    expect(complaints).toEqual([]);

    for (const text of [
      '<img src=x onerror="window.harmed=true">',
      '汤很好喝 😀',
      'a b '.repeat(5000),
      '\u0000\u202e',
    ]) {
      await at(page, 'question').fill(text);
      await page.waitForSelector('[data-test=answers], [role=alert]');
    }
    await at(page, 'question').fill('   ');
    await page.getByText('Type a sentence to classify it.').waitFor();
    expect(await page.evaluate('[window.harmed, document.querySelectorAll("img[src=x]").length]')).toEqual([
      undefined,
      0,
    ]);

    for (const [table, reason] of [
      ['', 'expected text, got an empty file'],
      ['<script>window.harmed = true</script>', 'expected the columns "label" and "text"'],
      ['label\ttext\ngood\tyes', 'at least two different labels'],
    ] as const) {
      await at(page, 'train').fill(table);
      await at(page, 'train').blur();
      await at(page, 'start').click();
      await phase(page, 'failed');
      expect(await at(page, 'failure').innerText()).toContain(reason);
    }
    expect(complaints).toEqual([]);
    await page.context().close();
  });

  it('says in one line what is missing: a GPU, threads, WebAssembly, its files, memory', async () => {
    const plain = await serve(site);
    expect(await notesOf(await visit(browser, addressIn(plain)))).toMatch(
      /^No WebGPU in this browser[^]*One thread: this address is served without/,
    );
    await plain.close();
    const withoutGpu = await openBrowser(softwareGpu);
    expect(await notesOf(await visit(withoutGpu, addressIn(server)))).toMatch(/^WebGPU without a GPU in this browser/);
    await withoutGpu.close();

    const withoutFiles = (context: BrowserContext) => context.route('**/*.wasm', (route) => route.abort());
    expect(await failureOf(await visit(browser, addressIn(server), withoutFiles))).toMatch(
      /^WebAssembly did not start here/,
    );

    const withoutWasm = workerBegins('delete globalThis.WebAssembly;');
    expect(await failureOf(await visit(browser, addressIn(server), withoutWasm))).toMatch(
      /^This browser has no WebAssembly/,
    );
    const withoutMemory = workerBegins(NO_MEMORY);
    expect(await failureOf(await visit(browser, addressIn(server), withoutMemory))).toMatch(
      /^This tab did not get enough memory/,
    );
  });
});

/** Returns the page's notes about the browser, shown when training starts. */
async function notesOf({ page }: Visited): Promise<string> {
  await replaceSentences(page, FEW);
  await at(page, 'start').click();
  const notes = await at(page, 'notes').innerText();
  await page.context().close();
  return notes;
}

/** Returns the page's message if training cannot start. */
async function failureOf({ page }: Visited): Promise<string> {
  await at(page, 'start').click();
  await phase(page, 'failed', 'finished');
  const failure = await at(page, 'failure').innerText();
  await page.context().close();
  return failure;
}
