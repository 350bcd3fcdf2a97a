// All that `@libp2p/interop` uses of aegir, its peer dependency of half a gigabyte: chai with the
// same plugins in the same order.

import chai from 'chai'
import chaiAsPromised from 'chai-as-promised'
import chaiBites from 'chai-bites'
import chaiParentheses from 'chai-parentheses'
import chaiString from 'chai-string'
import chaiSubset from 'chai-subset'

for (const plugin of [chaiAsPromised, chaiParentheses, chaiSubset, chaiBites, chaiString]) {
  chai.use(plugin)
}

export const { expect, assert } = chai
export { chai }
