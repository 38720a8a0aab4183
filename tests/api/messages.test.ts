import {
  addAdapter,
  addWeightedAdapter,
  attach,
  convertToLora,
  loadPretrained,
  memoryStorage,
  predict,
  savePretrained,
  train,
} from '@peftjs/core';
import { referenceExecutor, toyModel, toyTrainingData } from '@peftjs/conformance';
import { exportOnnx } from '@peftjs/engine';
import { lora } from '@peftjs/lora';
import { saveMerged } from '@peftjs/models';
import { describe, expect, it } from 'vitest';

const model = toyModel();
const executor = await referenceExecutor();
const peft = attach(model, lora({ r: 2 }));
addAdapter(peft, lora({ r: 2 }), { adapterName: 'second' });

/** A call with arguments that the function's types forbid. */
const calling =
  (called: unknown, ...given: readonly unknown[]) =>
  async () => {
    await (called as (...all: readonly unknown[]) => unknown)(...given);
  };

const weighted = { adapters: ['default', 'second'], weights: [1, 1], adapterName: 'sum' };
const training = { executor, epochs: 1, learningRate: 1e-3 };

describe('a message says what was expected and what was given', () => {
  it.each<[string, () => Promise<unknown>, string]>([
    [
      'a combination without weights',
      calling(addWeightedAdapter, peft, { adapters: ['default'], adapterName: 'sum' }),
      "addWeightedAdapter: option 'weights' is missing; expected a list of numbers",
    ],
    [
      "an option in PEFT's spelling",
      calling(addWeightedAdapter, peft, { ...weighted, combination_type: 'cat' }),
      "addWeightedAdapter: option 'combination_type' is unknown (did you mean 'combinationType'?); known are",
    ],
    [
      'an unknown sign method',
      calling(addWeightedAdapter, peft, { ...weighted, majoritySignMethod: 'mean' }),
      `option 'majoritySignMethod' is 'mean'; expected ("total" | "frequency")`,
    ],
    [
      'an unknown combination type',
      calling(addWeightedAdapter, peft, { ...weighted, combinationType: 'dare_tie' }),
      `option 'combinationType' is 'dare_tie' (did you mean 'dare_ties'?); expected`,
    ],
    [
      'a draw without a density',
      calling(addWeightedAdapter, peft, { ...weighted, combinationType: 'dare_ties' }),
      "density is missing; 'dare_ties' needs a share above 0 to 1",
    ],
    [
      'a method that is not called',
      calling(attach, model, lora),
      'configured is the function lora; expected a method with its options: call the method, as in attach(model, method())',
    ],
    ['no method', calling(attach, model, null), 'configured is null; expected a method with its options'],
    [
      'a save before merging',
      calling(saveMerged, peft, 'merged'),
      'expected a model without adapters, e.g. of fromPretrained or mergeAndUnload',
    ],
    [
      'a load without methods',
      calling(loadPretrained, model, 'adapter', {}),
      "loadPretrained: option 'methods' is missing; expected a list of methods",
    ],
    [
      'a conversion without a method',
      calling(convertToLora, peft, { rank: 2 }),
      "convertToLora: option 'method' is missing; expected a method: the function itself, not called",
    ],
    [
      'training without data',
      calling(train, peft, undefined, training),
      'data is missing; expected data to train on, e.g. of trainingData',
    ],
    ['an unknown option', calling(exportOnnx, model, { type: 'q8' }), "exportOnnx: option 'type' is unknown"],
    [
      'an export of nothing',
      calling(exportOnnx, null),
      'source is null; expected a model of fromPretrained, or one with',
    ],
    [
      'an empty batch',
      calling(predict, model, [{}], { executor }),
      'batches is [{..}]; expected a list of batches, e.g. of inputBatches',
    ],
    [
      'an option of the wrong kind',
      calling(train, peft, toyTrainingData(), { ...training, unclippedGroups: 'gate' }),
      "train: option 'unclippedGroups' is 'gate'; expected a list of texts",
    ],
  ])('for %s', async (_, call, message) => {
    await expect(call()).rejects.toThrow(
      expect.objectContaining({ code: 'PEFT_CONFIG', message: expect.stringContaining(message) as string }),
    );
  });

  it('for an adapter whose layers PEFT would repeat', async () => {
    const storage = memoryStorage();
    await savePretrained(attach(model, lora({ r: 2 })), 'adapter', { storage });
    const edit = async (file: string, from: RegExp, to: string) => {
      const bytes = await storage.read(`adapter/${file}`);
      const text = Buffer.from(bytes).toString('latin1').replaceAll(from, to);
      await storage.write(`adapter/${file}`, new Uint8Array(Buffer.from(text, 'latin1')));
    };
    await edit('adapter_config.json', /\{\n/g, '{\n  "layer_replication": [[0, 2], [0, 2]],\n');
    await edit('adapter_model.safetensors', /layer\.1\./g, 'layer.3.');
    await expect(loadPretrained(model, 'adapter', { methods: [lora], storage })).rejects.toThrow(
      expect.objectContaining({
        code: 'PEFT_UNSUPPORTED',
        message: expect.stringContaining("'layer_replication'") as string,
      }),
    );
  });
});
