import { it } from 'vitest';
import { openBrowser } from './browser.js';
import { serve, originOf } from './serve.js';
it('x', { timeout: 300000 }, async () => {
  const s = await serve('/tmp/setup/site2'); const b = await openBrowser();
  for (const [w, h] of [[1280, 900], [390, 844]] as const) {
    const p = await b.newPage({ viewport: { width: w, height: h } });
    for (const page of (process.env.PAGES ?? 'benchmarks/glue,benchmarks/standard,guides/where-it-runs,guides/images,install,benchmarks/bert-base,index,benchmarks/speed').split(',')) {
      await p.goto(originOf(s) + page); await p.waitForTimeout(500);
      const [height, width] = await p.evaluate(() => [document.documentElement.scrollHeight, document.documentElement.scrollWidth]);
      console.log(w, page, height, width > w ? 'SIDEWAYS ' + width : '');
      await p.screenshot({ path: `/tmp/shots/${page.replace('/', '-')}-${w}.png` });
    }
  }
  await b.close(); await s.close();
});
