import { ConfigError } from '@peftjs/core/method';
import { expect, it, vi } from 'vitest';
import { methods, pipeline } from './index.js';

it('a web page gets an error that asks for an executor', async () => {
  vi.stubGlobal('process', undefined);
  const refused = pipeline('text-classification', 'my-adapter');
  vi.unstubAllGlobals();
  await expect(refused).rejects.toThrow(ConfigError);
  await expect(refused).rejects.toThrow(/expected the option 'executor' in a page, e\.g\. compiled\(\{ runtime/);
});

it('a list of methods is validated like in @peftjs/pipelines', async () => {
  const refused = pipeline('text-classification', 'my-adapter', { methods: 'lora' as never });
  await expect(refused).rejects.toThrow(/option 'methods' is .*; expected a list of methods/);
});

it('contains every method once', () => {
  const names = methods.map(({ name }) => name);
  expect(new Set(names).size).toBe(names.length);
  expect(names).toEqual(expect.arrayContaining(['lora', 'sora', 'adalora', 'l1ra', 'vera', 'head', 'full']));
});
