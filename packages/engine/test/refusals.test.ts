import { describe, expect, it } from 'vitest';
import { compiled, eager } from '@peftjs/engine';
import { describeRefusals, double, refusal, x } from './refusing.js';

describeRefusals('compiled', compiled({ threads: 1 }));
describeRefusals('eager on wasm', await eager({ backend: 'wasm' }));
describeRefusals('eager on cpu', await eager({ backend: 'cpu' }));

describe('compiled rejects', () => {
  const options: readonly (readonly [string, object, string])[] = [
    ['NaN threads', { threads: NaN }, 'threads'],
    ['no threads', { threads: 0 }, 'threads'],
    ['half a thread', { threads: 0.5 }, 'threads'],
    ['infinitely many threads', { threads: Infinity }, 'threads'],
    ['threads in words', { threads: 'two' }, 'threads'],
    ['no execution provider', { executionProviders: [] }, 'executionProviders'],
    ['a provider that is not a list', { executionProviders: 'webgpu' }, 'executionProviders'],
    ['a kernel that is not a function', { kernels: { Add: 'Add' } }, 'kernels.Add'],
    ['a provider without a name', { executionProviders: [{}] }, 'executionProviders'],
  ];
  it.each(options)('%s', async (_, given, field) => {
    expect(await refusal(() => compiled(given))).toMatchObject({ code: 'PEFT_CONFIG', path: field });
  });

  it('a provider that ONNX Runtime does not have, by name, when it compiles', async () => {
    const other = compiled({ threads: 1, executionProviders: ['abacus'] });
    const { code, path, message } = await refusal(() => other.compile(double, { x }));
    expect([code, path]).toEqual(['PEFT_ENGINE', 'abacus']);
    expect(message).toMatch(/does not start on 'abacus' here: .*not found; listBackends\(\)/);
  });
});

describe('eager rejects', () => {
  it.each([['abacus'], [NaN], ['']])('the backend %s', async (backend) => {
    const { code, path } = await refusal(() => eager({ backend: backend as never }));
    expect([code, path]).toEqual(['PEFT_CONFIG', 'backend']);
  });
});
