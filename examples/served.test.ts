import { fromOnnx } from '@peftjs/onnx';
import { afterAll, expect, it, vi } from 'vitest';
import { served } from '../tests/cli/served.js';
import { fixture } from '../tests/models/onnx.js';
import { heard, useFolder } from './pages/surroundings.js';

useFolder();
afterAll(() => {
  vi.unstubAllEnvs();
});

it('tunes a served graph, and writes the folder to serve', async () => {
  await served('model', { 'model.onnx': fixture('bert-traced.onnx') });
  for (const [name, value] of Object.entries({ MODEL: 'model', ROWS: '64', EPOCHS: '1' })) vi.stubEnv(name, value);
  const log = heard('log');
  await import('./served.js');
  expect(log.mock.lastCall?.[0]).toMatch(/^\d+ tensors of the graph changed, rounded by at most 0$/);
  expect(await fromOnnx('web')).toMatchObject({ labels: ['bad', 'good'], pretrainedHead: true });
});
