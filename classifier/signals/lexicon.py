"""Words and phrases that signals count, by group. Data only.

Entries are lower case; a phrase of two or three words counts where its words stand next to each other, an apostrophe
separating words ("don t know"). A word may stand in several groups. ``SUBSTRINGS`` serves scripts that do not separate
words; it is read only where a text is not plain ASCII.
"""

WORDS: dict[str, str] = {
    "whole_scope": """
        codebase|monorepo|everywhere|repository wide|repo wide|company wide|whole|entire|all of our|all our|across all|
        across the|every service|all services|end to end|from scratch|ground up|each of the|all files|every file|
        everything|gesamte|ganze|gesamten|toute|toutes|entier|todo el|toda la|tutto|tutta|hele|wszystkie|tüm|весь|всю""",
    "parts": """
        services|service|microservices|modules|components|systems|subsystems|clusters|regions|tenants|pipelines|
        endpoints|queues|workers|nodes|shards|replicas|apps|clients|platforms|teams|departments|sites|branches|vendors|
        suppliers|stakeholders|consumers|producers|dienste|módulos|serviços|servicios""",
    "files": "file|files|folder|folders|directory|directories|modules|classes|datei|dateien|fichier|fichiers|archivo|archivos|arquivo",
    "documents": """
        document|documents|report|reports|contract|contracts|paper|papers|spreadsheet|spreadsheets|policy|policies|
        attachments|annex|memo|memos|minutes|transcript|transcripts|article|articles|studies|study|invoice|invoices""",
    "ambiguity": """
        somehow|sometimes|randomly|random|intermittent|intermittently|occasionally|weird|strange|strangely|unclear|unsure|
        flaky|mysterious|unexplained|inconsistent|inexplicably|not sure|no idea|any idea|any ideas|nobody knows|no one knows|
        don t know|can t figure|can t reproduce|cannot reproduce|can t explain|makes no sense|out of nowhere|once a week|
        now and then|every few|only happens|only happen|only breaks|only fails|only in prod|only in production|
        seems to|seem to|might be|could be|manchmal|keine ahnung|parfois|a veces|às vezes|a volte|soms|czasem|bazen|иногда""",
    "open_question": """
        should we|should i|should our|do we|what would|how would|how should|how do we|what should|where do we|
        where should|which way|best way|right way|worth it|better to|makes sense|make sense|is it wise|what am i missing|
        what are we missing|thoughts|opinion|recommend|recommendation|advise|advice|sollten wir|sollen wir|soll ich|
        devrions nous|devons nous|faut il|deberíamos|debería|deveríamos|devemos|dovremmo|moeten we|czy powinniśmy|
        стоит ли|empfehlen|empfiehlst""",
    "why": "why|how come|root cause|cause|causes|explain why|reason|reasons|warum|wieso|weshalb|pourquoi|por qué|por que|perché|waarom|dlaczego|neden|почему",
    "choice": """
        or|vs|versus|rather than|instead of|either|whether|alternatively|alternatives|alternative|options|option|choose|
        decide|decision|deciding|pick between|choose between|oder|ou|oppure|czy|или|entscheiden|choisir|elegir|decidir""",
    "comparison": """
        compare|compared|comparison|comparing|difference|differences|differ|tradeoff|tradeoffs|trade off|trade offs|pros|cons|
        advantages|disadvantages|weigh|weighing|benchmark|vergleiche|vergleich|unterschied|comparer|différence|comparar|
        diferencia|diferença|confrontare|differenza|porównaj|karşılaştır|сравни|разница""",
    "analysis": """
        analyse|analyze|analysis|analysing|analyzing|evaluate|evaluation|assess|assessment|investigate|diagnose|
        critique|figure out|work out|implications|implication|consequences|impact|risks|risk|feasible|feasibility|
        due diligence|reconcile|synthesise|synthesize|interpret|justify|argue|analysiere|bewerte|bewerten|analyser|évaluer|analizar|
        evaluar|analisar|avaliar|analizza|valutare|przeanalizuj|analiz|проанализируй|оцени""",
    "conditional": """
        if|unless|when|whereas|depending|depends|assuming|provided|otherwise|except|in case|only if|only when|even though|
        although|however|while|until|as long as|given that|wenn|falls|sobald|quand|lorsque|cuando|quando|jeśli|eğer|если""",
    "constraint": """
        must|without|at least|at most|no more than|less than|more than|within|only|never|cannot|require|requires|required|
        requirement|requirements|constraint|constraints|budget|deadline|limit|limits|limited|avoid|ensure|guarantee|
        guarantees|exactly|no downtime|zero downtime|still|also|both|but|ohne|muss|mindestens|höchstens|sans|doit|sin|debe|sem|deve|senza|bez|musi""",
    "planning": """
        plan|planning|plans|design|designing|redesign|architect|architecture|strategy|strategic|roadmap|approach|propose|
        proposal|blueprint|scale|scalable|scalability|rollout|roll out|phase out|phased|structure|organise|organize|
        come up with|think through|lay out|map out|work out how|framework|governance|modernise|modernize|replatform|
        consolidate|introduce|adopt|transition|move off|move away|plane|planen|entwirf|entwerfe|konzept|strategie|
        architektur|concevoir|conçois|conception|planifier|stratégie|diseña|diseñar|planifica|estrategia|planeja|
        projetar|projete|estratégia|progetta|progettare|strategia|ontwerp|zaprojektuj|zaplanuj|tasarla|planla|спроектируй|
        план|стратегию|архитектуру""",
    "executing": """
        implement|add|create|write|build|fix|update|change|make|generate|code|set up|setup|wire|hook up|finish|complete|
        handle|support|extend|integrate|port|script|solve|resolve|patch|draft|prepare|produce|erstelle|schreibe|schreib|
        implementiere|behebe|baue|écris|crée|implémente|corrige|escribe|crea|implementa|escreva|crie|implemente|scrivi|
        schrijf|napisz|dodaj|popraw|yaz|ekle|düzelt|напиши|добавь|исправь""",
    "mechanical": """
        rename|typo|typos|spelling|format|reformat|lowercase|uppercase|capitalise|capitalize|sort|list|extract|classify|
        label|translate|translation|convert|count|spell|indent|indentation|remove|delete|replace|bump|swap|strip|trim|
        dedupe|deduplicate|tag|categorise|categorize|pull out|fill in|look up|round|alphabetical|alphabetically|
        übersetze|übersetzen|traduis|traduire|traduce|traducir|traduza|traduci|vertaal|przetłumacz|çevir|переведи|
        extrahiere|liste|extrais|extrae|extraia|estrai|klassifiziere|classifie|clasifica|classifique""",
    "fact": """
        what is|what s|what are|who is|who was|who wrote|when is|when did|when was|where is|how many|how much|how old|how far|
        how tall|define|definition|meaning|mean|means|stands for|capital|called|which country|what year|what does|what time|
        was ist|was bedeutet|wie heißt|wie viele|wer ist|qu est|c est quoi|combien|qué es|cuánto|cuántos|o que é|
        quanto|quantos|cos è|che cos|wat is|co to|ile|nedir|kaç|что такое|сколько""",
    "explain": """
        explain|describe|teach|understand|how does|how do|walk me|eli5|intuition|overview|introduction|example|examples|
        tutorial|lesson|erkläre|erklär|erklären|explique|expliquer|explica|explicar|explique|spiega|leg uit|wyjaśnij|açıkla|объясни""",
    "rewriting": """
        rewrite|rephrase|shorten|summarise|summarize|summary|tldr|tl dr|paraphrase|proofread|polish|reword|tone|edit|
        simplify|condense|zusammenfassen|fasse|résume|résumer|resume|resumir|resumo|riassumi|samenvatten|streść|özetle|резюмируй""",
    "tests": "test|tests|testing|unit tests|unit test|pytest|jest|vitest|junit|rspec|coverage|mock|mocks|assert|fixture|fixtures|e2e|tdd",
    "docs": "readme|docstring|docstrings|documentation|changelog|jsdoc|comments|runbook|docs|wiki|release notes|manual",
    "refactor": """
        refactor|refactoring|restructure|decouple|untangle|split|merge|deduplicate|rewrite|migrate to|convert all|
        call sites|occurrences|legacy|spaghetti|technical debt|tech debt|deprecated|upgrade""",
    "debugging": """
        bug|bugs|error|errors|fails|failing|failed|fail|crash|crashes|crashing|hang|hangs|hanging|broken|breaks|exception|
        timeout|timeouts|stuck|leak|leaks|slow|wrong|doesn t work|not working|isn t working|won t|undefined|null|segfault|
        traceback|warning|fehler|erreur|funktioniert nicht|ne marche pas|no funciona|não funciona|errore|błąd|hata|ошибка""",
    "concurrency": """
        race|races|deadlock|deadlocks|lock|locks|locking|concurrent|concurrency|concurrently|threads|thread|parallel|
        under load|load|retry|retries|idempotent|idempotency|eventual|consistency|transactional|transaction|transactions|
        duplicate|duplicates|twice|out of order|stale|ordering|at the same time|simultaneously|two workers|failover""",
    "performance": "latency|throughput|p99|p95|performance|memory|cpu|cache|caching|bottleneck|faster|optimise|optimize|optimization|profiling|slow|scaling",
    "mathematics": """
        prove|proof|theorem|lemma|converges|converge|integral|derivative|matrix|polynomial|probability|equation|
        equations|solve|calculate|compute|sum|integer|integers|prime|triangle|function|variance|expected value|eigenvalue|
        modulo|inequality|bijection|continuous|limit|beweise|beweis|démontrer|démontre|demuestra|prove que|dimostra|udowodnij|докажи""",
    "proof": "prove|proof|show that|disprove|counterexample|derive|if and only if|necessary and sufficient|beweise|démontrer|démontre|demuestra|dimostra|udowodnij|докажи",
    "security": """
        security|secure|vulnerability|vulnerabilities|exploit|threat|threats|attack|attacker|attackers|encryption|encrypt|
        auth|authentication|authorization|oauth|sso|saml|jwt|permissions|permission|secrets|audit|pentest|breach|xss|csrf|
        injection|credentials|mfa|rbac|privacy|pii|compliance|sicherheit|sécurité|seguridad|segurança|sicurezza""",
    "production": """
        production|prod|outage|outages|incident|incidents|downtime|postmortem|customers|rollback|failover|disaster|recovery|
        sla|slo|on call|oncall|in the field|live|corruption|corrupted|data loss|lost data|losing data|incorrectly""",
    "money": """
        payment|payments|billing|charged|charge|charges|refund|refunds|revenue|margin|margins|ledger|payroll|pricing|
        invoice|costs|cost|tax|taxes|investment|invest|loan|mortgage|debt|salary|pension|fund|funding|valuation|equity|
        double charged|budget|profit|cash""",
    "migration": "migrate|migration|migrating|migrations|cutover|backfill|legacy|dual write|strangler|data center|datacenter|zero downtime|merger|acquisition|sunset|move to|move from",
    "legal": """
        legal|liability|liable|lawsuit|sue|lawyer|attorney|gdpr|regulation|regulations|regulator|regulatory|clause|clauses|
        indemnity|dismissal|termination|terminated|tenant|landlord|custody|inheritance|visa|copyright|licence|license|court|
        settlement|breach|jurisdiction|statute|recht|kündigung|contrat|contrato|contratto|umowa""",
    "health": """
        patient|patients|symptoms|symptom|diagnosis|dose|dosage|medication|treatment|surgery|chronic|pregnant|blood|pain|
        therapy|clinical|disease|cancer|doctor|mg|arzt|médecin|médico|medico""",
    "people": """
        layoffs|layoff|fire|fired|resign|resignation|promotion|conflict|reorg|reorganisation|reorganization|hiring|morale|
        divorce|grieving|burnout|negotiate|negotiation|quit|culture|trust|board|ceo|founder|cofounder|union""",
    "conflict": """
        contradict|contradicts|contradictory|conflicting|conflicts|disagree|disagrees|inconsistent|mismatch|discrepancy|
        discrepancies|don t match|doesn t match|doesn t add|don t add|on the other hand|yet|despite|opposing|competing|
        one says|says one|widersprechen|widersprüchlich|contradictoire|contradictorio""",
    "horizon": "years|year|quarter|quarters|months|long term|long run|future|eventually|next year|five year|three year|decade|multi year|growth|grow|growing|jahre|ans|años|anos|anni",
    "scale_words": "million|millions|billion|thousands|hundreds|terabytes|tb|petabytes|qps|rps|tps|users|devices|concurrent users|requests per|per second|events|millionen|millones|milhões",
    "given_plan": """
        according to|as described|as specified|per the|following the|spec|specification|ticket|plan md|spec md|the plan|
        acceptance criteria|as agreed|step 1|step 2|per spec|laut|gemäß|selon|según|conforme|secondo|volgens|zgodnie""",
    "output_format": "json|csv|table|yaml|xml|markdown|bullet|bullets|bullet points|bulleted|columns|column|headings|schema|html|latex|regex|template",
    "short_output": """
        one word|single word|one sentence|single sentence|one line|one liner|oneliner|yes or no|only the|just the|in short|
        briefly|short|shortest|quick|nothing else|no explanation|title|headline|subject line|caption|name|names|ein satz|une phrase|
        una frase|uma frase|in kurz""",
    "long_output": """
        detailed|in detail|comprehensive|thorough|thoroughly|step by step|in depth|full|complete|essay|article|pages|
        chapter|chapters|guide|whitepaper|speech|story|long|ausführlich|détaillé|detallado|detalhado|dettagliato""",
    "creative": "poem|story|song|lyrics|joke|tagline|slogan|limerick|haiku|novel|character|characters|scene|dialogue|plot|gedicht|poème|poema|poesia|wiersz|şiir|стих",
    "english": "the|a|an|is|are|was|to|of|and|in|on|for|with|that|this|it|we|i|you|my|our|be|have|has|do|does|not|can|from|at|as|by|me",
    "foreign": """
        der|die|das|und|ist|nicht|ein|eine|für|mit|auf|wir|ich|wie|le|la|les|des|est|et|une|pour|dans|nous|je|que|el|los|las|
        es|un|una|para|con|por|nos|como|o|os|um|uma|não|em|il|lo|gli|di|che|per|non|sono|de|het|een|en|van|ik|niet|w|na|
        się|jest|nie|jak|bir|ve|bu|için|nasıl|mi|и|в|не|на|что|как|с|у""",
}
"""Group -> its words and phrases, separated by ``|``."""

FILLER = """
    please pls plz thanks thank thx kindly hi hello hey dear sorry cheers hope well appreciate appreciated bitte danke merci
    gracias obrigado obrigada grazie proszę lütfen regards sincerely advance bother apologies cheers btw just really very actually basically literally urgent
    urgently asap help need want like could would can you me i
"""
"""Words that say nothing of the work asked for; size signals do not count them."""

SUBSTRINGS: dict[str, str] = {
    "planning": "设计|規劃|规划|方案|架构|戦略|設計|計画|策略|설계|계획|전략|아키텍처|योजना|डिज़ाइन|تصميم|خطة|استراتيجية",
    "executing": "实现|编写|写一|修复|添加|実装|作成|書いて|修正|追加|구현|작성|수정|추가|만들어|लिखो|लिखें|बनाओ|اكتب|أنشئ|أصلح|أضف",
    "mechanical": "翻译|提取|分类|转换|翻訳|抽出|分類|変換|번역|추출|분류|변환|अनुवाद|ترجم|استخرج|صنف",
    "fact": "是什么|什么是|是谁|多少|何ですか|とは|いつ|誰|무엇|뭐야|누구|몇|क्या है|कौन|कितने|ما هو|ما هي|من هو|كم",
    "why": "为什么|原因|なぜ|왜|원인|क्यों|لماذا|سبب",
    "open_question": "应该|是否|建议|怎么办|べき|どうすれば|おすすめ|해야|좋을까|추천|चाहिए|सलाह|هل يجب|هل ينبغي|نصيحة",
    "explain": "解释|说明|説明|教えて|설명|알려|समझा|اشرح|وضح",
    "choice": "还是|或者|または|それとも|아니면|혹은|या|أم|أو",
    "comparison": "比较|区别|比較|違い|비교|차이|तुलना|अंतर|قارن|الفرق",
    "analysis": "分析|评估|評価|분석|평가|विश्लेषण|حلل|تحليل|تقييم",
    "ambiguity": "有时|偶尔|不知道|時々|たまに|わからない|가끔|모르겠|कभी|पता नहीं|أحيانا|لا أعرف",
    "rewriting": "总结|摘要|改写|要約|書き直|요약|다시 써|सारांश|لخص|أعد صياغة",
    "debugging": "错误|报错|エラー|バグ|오류|버그|에러|त्रुटि|خطأ",
    "proof": "证明|証明|증명|सिद्ध|أثبت",
    "mathematics": "证明|計算|计算|方程|積分|계산|방정식|गणना|احسب|معادلة",
    "production": "生产环境|线上|本番|障害|운영|장애|الإنتاج",
    "legal": "合同|法律|契約|法的|계약|법적|कानून|عقد|قانون",
}
