import { existsSync } from 'node:fs';
import { chromium, type Browser } from 'playwright-core';

const executablePath = process.env.PEFTJS_CHROMIUM ?? '/usr/bin/chromium';

/** Whether pages cannot be opened here. */
export const withoutChromium = !existsSync(executablePath);

/** Belongs into the title of what is skipped without a browser. */
export const inChromium = withoutChromium ? `skipped: there is no ${executablePath}` : 'in Chromium';

/** Chromium with a WebGPU that the processor plays. */
export const softwareGpu = ['--enable-unsafe-webgpu', '--use-webgpu-adapter=swiftshader'];

/** @throws where there is no Chromium. */
export function openBrowser(args: readonly string[] = ['--disable-gpu']): Promise<Browser> {
  return chromium.launch({ executablePath, args: ['--no-sandbox', ...args] });
}
