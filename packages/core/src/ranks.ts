// The entry for authors of methods that choose ranks: rank methods, their policies, competing for a budget, and costs.
export {
  allocatedRanks,
  allocatedShare,
  changeRanks,
  keepRanks,
  rankedPaths,
  totalRanks,
  withRankCounts,
} from './ranks/changes.js';
export {
  allocatedCost,
  bestFirst,
  dealRanks,
  fillBudget,
  pruneStep,
  rankCostIn,
  ranksByPath,
  ranksThatFill,
  scoredRanks,
  selectRanks,
  type RankCost,
  type RankDeal,
  type RankScores,
  type ScoredRank,
} from './ranks/competition.js';
export { truncateToBudget } from './ranks/truncation.js';
export {
  alphasFor,
  assertOneRank,
  compactPattern,
  fullRank,
  rankCost,
  ranksForBudget,
  startingRankForBudget,
  rankUnit,
  startAbove,
  RANKS_PER_KEPT_RANK,
  sitesForBudget,
  moduleRank,
  rankPatterns,
  type ModuleRank,
  startingRank,
  withRanksForBudget,
} from './ranks/budget.js';
export { orthonormalityErrors, softSqrt } from './ranks/orthonormality.js';
export { rankLayer } from './ranks/rank-layer.js';
export {
  budgetEntries,
  dropoutEntries,
  rankEntries,
  type RankConfig,
  type RankMethod,
  type RankOptions,
} from './ranks/definition.js';
export { rankMethod } from './ranks/rank-method.js';
export {
  rankController,
  rankValues,
  type RankDecision,
  type RankPolicy,
  type RankReading,
} from './ranks/rank-policy.js';
export { firstWithinBudget, isNearBudget, selectWithinBudget, type BudgetItem } from './ranks/within-budget.js';
