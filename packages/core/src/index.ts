// The entry for users: attach a method to a model, train, evaluate, count, combine, save and load.
export { PeftError } from './errors.js';
export { onWarning } from './config.js';
export { hostTensor } from './tensors.js';
export type { Executor } from './contracts/executor.js';
export type { Batch, EvaluationData, InputBatch, Model, TrainingData } from './contracts/model.js';
export { diskStorage } from './disk/disk-storage.js';
export { memoryStorage, type Storage } from './storage.js';
export { attach } from './adapter/attach.js';
export { activeAdapter, withAdapter, type PeftModel } from './adapter/peft-model.js';
export {
  addAdapter,
  deleteAdapter,
  disableAdapter,
  fullPrecision,
  mergeAdapter,
  mergeAndUnload,
  setAdapter,
  unload,
  unmergeAdapter,
} from './adapter/adapters.js';
export { activeRanks, countParameters, describeParameters } from './adapter/accounting.js';
export { loadAdapter, loadPretrained, savePretrained } from './files/pretrained.js';
export { convertToLora } from './files/convert.js';
export { getPeftModelStateDict, hotswapAdapter, setPeftModelStateDict } from './files/state-dict.js';
export { addWeightedAdapter } from './files/weighted.js';
export { train } from './train/train.js';
export type { TrainOptions } from './train/options.js';
export { jsonLines } from './train/json-lines.js';
export { calibrate } from './train/calibrate.js';
export { evaluate, predict } from './train/evaluate.js';
export { fitTemperature } from './train/temperature.js';
export { withInputs } from './train/with-inputs.js';
export { withReference } from './train/reference.js';
export { constant, cosine, linear } from './train/schedules.js';
export { adafactor } from './optimizers/adafactor.js';
export { adamW } from './optimizers/adamw.js';
export { lion } from './optimizers/lion.js';
export { sgd } from './optimizers/sgd.js';
