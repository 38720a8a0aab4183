import { existsSync } from 'node:fs';
import { chromium, type Browser, type BrowserContext, type Page, type Request } from 'playwright-core';

const executablePath = process.env.PEFTJS_CHROMIUM ?? '/usr/bin/chromium';

/** Whether Chromium is missing on this machine. */
export const withoutChromium = !existsSync(executablePath);

/** A suffix for test titles: where the test runs, or why it is skipped. */
export const inChromium = withoutChromium ? `skipped: there is no ${executablePath}` : 'in Chromium';

/** Chromium with a software WebGPU. */
export const softwareGpu = ['--enable-unsafe-webgpu', '--use-webgpu-adapter=swiftshader'];

/** Opens Chromium. @throws where there is no Chromium. */
export function openBrowser(args: readonly string[] = ['--disable-gpu']): Promise<Browser> {
  return chromium.launch({ executablePath, args: ['--no-sandbox', ...args] });
}

/** An open page in a separate browser context, with its console errors and foreign requests. */
export interface Visited {
  readonly page: Page;
  /** Errors and warnings of the console, and uncaught errors. */
  readonly complaints: string[];
  /** Requested addresses of other hosts. */
  readonly foreign: string[];
  /** Goes to another page of the site, and waits until Vue has taken it over and nothing more is requested. */
  open(address: string): Promise<void>;
}

/** Opens a page, in a context that `prepare` has set up. */
export async function visit(
  browser: Browser,
  address: string,
  prepare: (context: BrowserContext) => Promise<unknown> = () => Promise.resolve(),
): Promise<Visited> {
  const context = await browser.newContext();
  await prepare(context);
  const page = await context.newPage();
  const complaints: string[] = [];
  const foreign: string[] = [];
  page.on('console', (message) => {
    if (['error', 'warning'].includes(message.type())) complaints.push(message.text());
  });
  page.on('pageerror', (error) => complaints.push(error.message));
  context.on('request', (request) => {
    const url = request.url();
    if (!/^(blob|data):/.test(url) && new URL(url).origin !== new URL(address).origin) foreign.push(url);
  });
  const requested = new Set<Request>();
  page.on('request', (request) => requested.add(request));
  page.on('requestfinished', (request) => requested.delete(request));
  page.on('requestfailed', (request) => requested.delete(request));
  await page.goto(address);
  const open = async (next: string) => {
    await page.goto(next);
    await page.waitForFunction(TAKEN_OVER);
    do await page.evaluate(IDLE);
    while (requested.size > 0);
  };
  return { page, complaints, foreign, open };
}

/** Runs in the page: whether Vue has taken over what was rendered before. */
const TAKEN_OVER = 'document.querySelector("#app")?.__vue_app__';
/** Runs in the page: waits until the browser has nothing else to do. */
const IDLE = 'new Promise((ready) => requestIdleCallback(ready))';
